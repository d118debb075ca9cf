"""Bundles of every format version that was ever written are read for ever; `kept/` holds one of each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import numpy as np

from modelport.bundle.manifest import MANIFEST, decode_manifest
from modelport.bundle.rules import check_manifest
from modelport.bundle.store import Bundle
from modelport.runtimes.pipeline import Pipeline

KEPT = Path(__file__).with_name("kept")
SPEC = Path(__file__).resolve().parents[2] / "docs" / "spec"


def test_version_1_opens_and_answers_as_ever() -> None:
    bundle = Bundle.open(KEPT / "version-1.zip")
    assert bundle.manifest.format_version == 1
    assert bundle.digest == "1a57281ff1bee60304c5fbffc3b2cff2b4367b2427dd42318c64b9d5897e1cba"
    bundle.verify_files()
    with Pipeline.open(bundle.path) as pipeline:
        answer = pipeline.answer({"image": np.arange(48, dtype=np.uint8).reshape(4, 4, 3)})
    np.testing.assert_allclose(answer["scores"], [0.00084188435, 0.02858517, 0.97057301], rtol=1e-6)


def test_version_1_keeps_its_digest_in_a_copy(tmp_path: Path) -> None:
    bundle = Bundle.open(KEPT / "version-1.zip")
    assert bundle.save_as(tmp_path / "copy").digest == bundle.digest


def test_what_is_derived_from_version_1_is_of_the_newest(tmp_path: Path) -> None:
    bundle = Bundle.open(KEPT / "version-1.zip")
    derived = bundle.derive(tmp_path / "tiny" / "2", {}, version="2")
    assert derived.manifest.format_version == json.loads(derived.read(MANIFEST))["format_version"] == 2
    assert derived.manifest.variants == bundle.manifest.variants
    assert derived.manifest.lineage.parent == bundle.digest


def test_the_text_of_version_1_still_describes_what_is_read() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", (SPEC / "bundle-v1.md").read_text(), re.DOTALL)
    schema = json.loads((SPEC / "bundle-v1.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(example))
    check_manifest(decode_manifest(example.encode()))
