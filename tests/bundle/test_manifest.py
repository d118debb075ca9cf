"""`modelport.json` as bytes: what is read, what is refused, and in which words."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from modelport.bundle.manifest import (
    MAX_MANIFEST_BYTES,
    Decode,
    File,
    Manifest,
    decode_manifest,
    encode_manifest,
)
from modelport.errors import BundleError

SHA = "ab" * 32


@pytest.fixture
def data(tiny_manifest: Manifest) -> dict[str, Any]:
    manifest = msgspec.structs.replace(tiny_manifest, files={"pre.onnx": File(SHA, 3)})
    parsed: dict[str, Any] = json.loads(encode_manifest(manifest))
    return parsed


def refusal(data: bytes | dict[str, Any]) -> str:
    with pytest.raises(BundleError) as caught:
        decode_manifest(data if isinstance(data, bytes) else json.dumps(data).encode())
    return str(caught.value)


def test_reads_what_it_writes(tiny_manifest: Manifest) -> None:
    manifest = msgspec.structs.replace(tiny_manifest, files={"a": File(SHA, 3)})
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert manifest.inputs == manifest.graphs.pre.signature.inputs
    assert manifest.outputs == manifest.graphs.post.signature.outputs


def test_is_readable_and_ends_in_a_newline(tiny_manifest: Manifest) -> None:
    text = encode_manifest(tiny_manifest)
    assert text.startswith(b'{\n  "format": "modelport-bundle",\n  "format_version": 2,\n')
    assert text.endswith(b"}\n")


def test_another_format_is_named_before_its_fields_are_judged() -> None:
    assert refusal({"format": "zip", "format_version": 1}) == (
        "modelport.json has format 'zip'; expected 'modelport-bundle' at `$.format`"
    )


def test_a_newer_version_says_what_to_install() -> None:
    message = refusal({"format": "modelport-bundle", "format_version": 3, "anything": []})
    assert "bundle format version 3; this Modelport reads 1 and 2" in message
    assert "install a newer Modelport" in message


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_that_never_was(version: int) -> None:
    message = refusal({"format": "modelport-bundle", "format_version": version})
    assert f"bundle format version {version}" in message
    assert "hint" not in message


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `format`"),
        (b"\xff\xfe", "malformed"),
        (b"\xef\xbb\xbf{}", "malformed"),
        (b'{"format": "\xff"}', "codec can't decode"),
        (b"[" * 100_000, "Expected `object`"),
        (b'{"x": ' + b"[" * 100_000, "recursion"),
        (b'{"format": "modelport-bundle", "format_version": NaN}', "malformed"),
        (b'{"format": "modelport-bundle", "format_version": 1.0}', "got `float`"),
        (b'{"format": "modelport-bundle", "format_version": "1"}', "got `str`"),
        (b'{"format": "modelport-bundle", "format_version": true}', "got `bool`"),
        (b'{"format": "modelport-bundle", "format_version": 1' + b"0" * 5000 + b"}", "out of range"),
    ],
)
def test_bytes_that_are_no_manifest(raw: bytes, words: str) -> None:
    message = refusal(raw)
    assert "is not a manifest" in message
    assert words in message


def test_too_long_is_not_parsed() -> None:
    message = refusal(b" " * (MAX_MANIFEST_BYTES + 1))
    assert message == "modelport.json is 4194305 bytes; at most 4194304 are read"


def test_text_that_is_not_utf8_in_a_field_that_the_head_skips(data: dict[str, Any]) -> None:
    raw = json.dumps(data).encode().replace(b'"description": ""', b'"description": "\xff"')
    assert "codec can't decode" in refusal(raw)


def test_nesting_that_only_the_free_fields_allow(data: dict[str, Any]) -> None:
    raw = json.dumps(data).encode().replace(b'"agree": 0.998', b'"agree": ' + b"[" * 5000 + b"]" * 5000)
    assert "recursion" in refusal(raw)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        (b'"version": "1"', b'"version": "1", "version": "2"', "version"),
        (b'"size": 3', b'"size": 3, "size": 4', "size"),
        (b'"agree": 0.998', b'"agree": 0.1, "agree": 0.998', "agree"),
        (
            b'"files": {',
            b'"files": {"pre.onnx": {"sha256": "' + SHA.encode() + b'", "size": 4}, ',
            "pre.onnx",
        ),
    ],
)
def test_a_key_twice_is_two_manifests_in_one(data: dict[str, Any], old: bytes, new: bytes, key: str) -> None:
    raw = json.dumps(data).encode()
    assert raw.count(old) == 1
    assert refusal(raw.replace(old, new)) == f"modelport.json has the key {key!r} twice in one object"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("name", "a/b", "matching regex"),
        ("name", "tiny\n", "matching regex"),
        ("name", "", "matching regex"),
        ("name", "x" * 129, "matching regex"),
        ("version", "..", "matching regex"),
        ("version", 1, "Expected `str`, got `int` - at `$.version`"),
        ("extra", 1, "unknown field `extra`"),
        ("files.pre~onnx.size", -1, ">= 0"),
        ("files.pre~onnx.size", 3.0, "got `float`"),
        ("files.pre~onnx.size", True, "got `bool`"),
        ("files.pre~onnx.size", "3", "got `str`"),
        ("files.pre~onnx.size", 1 << 53, "<= 9007199254740991"),
        ("files.pre~onnx.size", 10**30, "<= 9007199254740991"),
        ("files.pre~onnx.sha256", "AB" * 32, "matching regex"),
        ("files.pre~onnx.sha256", SHA + "\n", "matching regex"),
        ("files.pre~onnx.sha256", SHA[:-1], "matching regex"),
        ("files.", {"sha256": SHA, "size": 3}, "length >= 1"),
        ("files." + "x" * 256, {"sha256": SHA, "size": 3}, "length <= 255"),
        ("decode.kind", "pickle", "Invalid enum value 'pickle'"),
        ("decode.background", [0, 0, 256], "<= 255"),
        ("decode.background", [0, 0], "length 3"),
        ("decode.max_pixels", 0, ">= 1"),
        ("golden.net.absolute", -1e-3, ">= 0"),
        ("graphs.net.batch", 1, "Expected `bool`"),
        ("graphs.net.signature.inputs", None, "got `null` - at `$.graphs.net.signature.inputs`"),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_with_its_path(
    data: dict[str, Any], path: str, value: object, words: str
) -> None:
    *above, last = (part.replace("~", ".") for part in path.split("."))
    place = data
    for key in above:
        place = place[key]
    place[last] = value
    message = refusal(data)
    assert message.startswith("modelport.json: ")
    assert words in message


@pytest.mark.parametrize(
    "field", ["name", "version", "task", "created", "producer", "decode", "graphs", "files"]
)
def test_a_field_that_must_be_there(data: dict[str, Any], field: str) -> None:
    del data[field]
    assert f"missing required field `{field}`" in refusal(data)


def test_infinity_has_no_place(data: dict[str, Any]) -> None:
    raw = json.dumps(data).encode().replace(b"0.998", b"1e999")
    assert "out of range" in refusal(raw)


def test_defaults_are_the_documented_ones() -> None:
    assert Decode() == Decode("image", (255, 255, 255), 100_000_000, 67_108_864)
