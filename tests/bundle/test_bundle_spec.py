"""The specification is executed: its example, its schema and its numbers are the code's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from modelport.bundle import archive, audit
from modelport.bundle.layout import version_key
from modelport.bundle.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Decode,
    Manifest,
    decode_manifest,
    encode_manifest,
    manifest_schema,
)
from modelport.bundle.rules import check_manifest
from modelport.bundle.store import Bundle
from modelport.errors import BundleError
from modelport.tensors import OIP_DATATYPES

SPEC = Path(__file__).resolve().parents[2] / "docs" / "spec"


@pytest.fixture(scope="module")
def text() -> str:
    return (SPEC / "bundle-v2.md").read_text()


@pytest.fixture(scope="module")
def example(text: str) -> bytes:
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    return str(block).encode()


@pytest.fixture(scope="module")
def valid() -> jsonschema.Draft202012Validator:
    schema = json.loads((SPEC / "bundle-v2.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_is_the_types() -> None:
    """To renew it: `print(json.dumps(manifest_schema(), indent=2))`."""
    assert (SPEC / "bundle-v2.schema.json").read_text() == json.dumps(manifest_schema(), indent=2) + "\n"


def test_the_schema_s_patterns_are_plain() -> None:
    """Some engines of regular expressions know no look-ahead."""
    text = (SPEC / "bundle-v2.schema.json").read_text()
    assert set(re.findall(r'"pattern": "(.*)"', text)) == {
        "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
        "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        "^[a-z][a-z0-9_]{0,63}$",
        "^[0-9a-f]{64}$",
    }


def test_the_example_is_a_manifest(example: bytes, valid: jsonschema.Draft202012Validator) -> None:
    valid.validate(json.loads(example))
    manifest = decode_manifest(example)
    check_manifest(manifest)
    assert manifest.variants[0].name == "int8"
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_the_example_shows_every_field(example: bytes) -> None:
    whole = json.loads(encode_manifest(decode_manifest(example)))
    assert json.loads(example) == whole


def test_what_is_written_is_valid(tiny: Bundle, valid: jsonschema.Draft202012Validator) -> None:
    valid.validate(json.loads(tiny.read(MANIFEST)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", "other"),
        ("format_version", 3),
        ("name", "a/b"),
        ("unknown", 1),
        ("labels", 3),
        ("decode.background", [0, 0, 256]),
        ("decode.kind", "sound"),
        ("graphs.net", None),
        ("graphs.net.batch", "yes"),
        ("golden.net.absolute", -1),
        ("files.labels~txt.size", -1),
        ("files.labels~txt.sha256", "00"),
        ("lineage.parent", "x"),
    ],
)
def test_schema_and_reader_refuse_the_same(
    example: bytes, valid: jsonschema.Draft202012Validator, path: str, value: object
) -> None:
    data: Any = json.loads(example)
    place = data
    *above, last = (part.replace("~", ".") for part in path.split("."))
    for key in above:
        place = place[key]
    place[last] = value
    assert not valid.is_valid(data)
    with pytest.raises(BundleError):
        decode_manifest(json.dumps(data).encode())


@pytest.mark.parametrize(
    "field", json.loads((SPEC / "bundle-v2.schema.json").read_text())["$defs"]["Manifest"]["required"]
)
def test_required_fields_are_called_so(
    text: str, example: bytes, valid: jsonschema.Draft202012Validator, field: str
) -> None:
    assert re.search(rf"^\| `{field}` \|.*\*\*required\*\*", text, re.MULTILINE)
    data = json.loads(example)
    del data[field]
    assert not valid.is_valid(data)
    with pytest.raises(BundleError):
        decode_manifest(json.dumps(data).encode())


def test_every_field_has_its_row(text: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| ", text.split("## 3.")[1].split("## 4.")[0], re.MULTILINE)
    assert tuple(rows) == Manifest.__struct_fields__
    required = set(re.findall(r"^\| `(\w+)` \|.*\*\*required\*\*", text, re.MULTILINE))
    assert required == set(manifest_schema()["$defs"]["Manifest"]["required"])


def test_the_numbers_are_the_codes(text: str) -> None:
    flat = " ".join(text.split())
    assert f"at most 4 MiB ({MAX_MANIFEST_BYTES:_})".replace("_", " ") in flat
    assert MAX_MANIFEST_BYTES == 4 << 20
    assert Decode().max_bytes == 64 << 20
    assert f"{Decode().max_pixels:_} pixels, 64 MiB".replace("_", " ") in flat
    assert archive.SMALL == 16 << 20
    assert f"over 16 MiB that is compressed more than {archive.MAX_RATIO}-fold" in flat
    assert archive.MAX_CONTENTS_BYTES == 8 << 20
    assert "a table of contents of over 8 MiB" in flat
    assert audit.MAX_ONNX_BYTES == 2**31 - 1
    assert "at most 2³¹ − 1 bytes" in flat
    assert f"nested more than {audit.MAX_DEPTH} deep" in flat
    assert f"more than {audit.MAX_NODES:_} nodes".replace("_", " ") in flat
    for domain in audit.DOMAINS:
        assert f"`{domain}`" in flat or domain == ""
    for _, operator in audit._LEAVES_THE_GRAPH:
        assert f"`{operator}`" in flat
    assert ", ".join(f"`{name}`" for name in OIP_DATATYPES) in flat


def test_the_order_of_versions_is_the_one_written(text: str) -> None:
    (line,) = re.findall(r"^`1\.0-rc1` < .*$", text, re.MULTILINE)
    versions = re.findall(r"`([^`]+)`", line)
    assert len(versions) == 7
    assert sorted(versions, key=version_key) == versions


def test_links_between_the_texts_lead_somewhere(text: str) -> None:
    root = SPEC.parents[1]
    security = (root / "SECURITY.md").read_text()
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    links = [(root, link) for link in re.findall(r"\]\(([^)]+)\)", security)]
    links += [(SPEC, link) for link in re.findall(r"\]\(([^)]+)\)", text)]
    assert len(links) >= 2
    for folder, link in links:
        target, _, anchor = link.partition("#")
        assert (folder / target).is_file(), link
        assert not anchor or anchor in headings, link
