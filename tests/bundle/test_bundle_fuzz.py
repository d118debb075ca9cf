"""Damage at random: whatever is in the bytes, the answer is a bundle or a `BundleError`."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelport.bundle.audit import audit_onnx
from modelport.bundle.manifest import MANIFEST, decode_manifest
from modelport.bundle.rules import check_manifest
from modelport.bundle.store import Bundle
from modelport.errors import BundleError

Judge = Callable[[bytes], object]


def damaged(data: bytes, seed: int) -> bytes:
    """Bits flipped, bytes overwritten with telling values, pieces cut out, doubled or swapped."""
    choose = random.Random(seed)
    raw = bytearray(data)
    for _ in range(choose.randint(1, 4)):
        at = choose.randrange(len(raw))
        end = min(len(raw), at + choose.randint(1, 16))
        kind = choose.randrange(5)
        if kind == 0:
            raw[at] ^= 1 << choose.randrange(8)
        elif kind == 1:
            raw[at:end] = bytes([choose.choice((0, 1, 0x7F, 0x80, 0xFF))]) * (end - at)
        elif kind == 2:
            del raw[at:end]
        elif kind == 3:
            raw[at:at] = raw[at:end]
        else:
            other = choose.randrange(len(raw))
            raw[at], raw[other] = raw[other], raw[at]
        if not raw:
            break
    return bytes(raw)


def survivors(judge: Judge, cases: list[bytes]) -> int:
    """How many were taken; anything raised that is not a BundleError fails the test."""
    taken = 0
    for case in cases:
        try:
            judge(case)
            taken += 1
        except BundleError as problem:
            assert str(problem)  # noqa: PT017 (most, not all, are refused)
    return taken


def test_manifests(tiny: Bundle) -> None:
    data = tiny.read(MANIFEST)

    def judge(raw: bytes) -> None:
        check_manifest(decode_manifest(raw))

    cases = [damaged(data, seed) for seed in range(3000)]
    assert 0 < survivors(judge, cases) < len(cases)


@given(st.binary(max_size=200))
def test_any_bytes_as_a_manifest(raw: bytes) -> None:
    with pytest.raises(BundleError):
        decode_manifest(raw)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    ),
    st.sampled_from(
        ["name", "files", "graphs", "golden", "variants", "labels", "decode", "steps", "lineage"]
    ),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_value_in_any_field(tiny: Bundle, value: object, field: str) -> None:
    import json

    data = json.loads(tiny.read(MANIFEST))
    data[field] = value
    survivors(lambda raw: check_manifest(decode_manifest(raw)), [json.dumps(data).encode()])


def test_archives(tiny: Bundle, tmp_path: Path) -> None:
    whole = tiny.save_as(tmp_path / "whole.zip").path.read_bytes()
    path = tmp_path / "damaged.zip"

    def judge(raw: bytes) -> None:
        path.write_bytes(raw)
        bundle = Bundle.open(path)
        bundle.verify_files()
        assert bundle.digest == tiny.digest, "a changed byte went through"

    # The table of contents is where the danger is, so most of the damage is done there.
    contents = whole.index(b"PK\x01\x02")
    cases = [damaged(whole, seed) for seed in range(300)]
    cases += [whole[:contents] + damaged(whole[contents:], seed) for seed in range(900)]
    assert survivors(judge, cases) < len(cases)


def test_deflated_archives(tiny: Bundle, tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "deflated.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in (MANIFEST, *tiny.manifest.files):
            file.writestr(name, tiny.read(name))
    whole = path.read_bytes()

    def judge(raw: bytes) -> None:
        path.write_bytes(raw)
        Bundle.open(path).verify_files()

    cases = [damaged(whole, seed) for seed in range(1000)]
    assert survivors(judge, cases) < len(cases)


def test_graphs(tiny_files: dict[str, bytes]) -> None:
    for name in ("pre.onnx", "net.onnx", "post.onnx"):
        cases = [damaged(tiny_files[name], seed) for seed in range(900)]
        assert 0 < survivors(lambda raw: audit_onnx(raw, "graph"), cases) < len(cases)


@given(st.binary(max_size=300))
def test_any_bytes_as_a_graph(raw: bytes) -> None:
    survivors(lambda data: audit_onnx(data, "graph"), [raw])
