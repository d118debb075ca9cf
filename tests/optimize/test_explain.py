"""What a runtime makes of a network: which layers stayed in float, which conversions did not fuse."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from modelport.bundle.store import Bundle
from modelport.optimize import explain
from modelport.optimize.calibration import Calibration, read_calibration
from modelport.optimize.candidate import START, Candidate, apply
from modelport.optimize.explain import Fused, explained
from modelport.optimize.passes.int8 import StaticInt8

from .networks import packed, pictures


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return packed(tmp_path_factory.mktemp("explain"))


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory, start: Bundle) -> Calibration:
    return read_calibration(start, pictures(tmp_path_factory.mktemp("explained"), 24))


def test_openvino_says_what_stayed_in_float(start: Bundle, calibration: Calibration, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'modelport[openvino]'")
    item = calibration.items[0]
    whole = explained(apply(StaticInt8(runtime="openvino"), start, calibration, tmp_path), item)
    assert whole.startswith("3 of 3 layers run in 8 bits") and "in float" not in whole
    mixed = apply(StaticInt8(runtime="openvino", kept=("second",)), start, calibration, tmp_path)
    assert explained(mixed, item).startswith("2 of 3 layers run in 8 bits; in float stayed second; ")
    assert "between float and 8 bits did not fuse (x" in explained(mixed, item)
    assert "% of its time" in explained(mixed, item)
    plain = Candidate(START, "as it is", start, (), runtime="openvino")
    assert explained(plain, item) == ""  # nothing is in 8 bits


def test_weights_without_sign_are_told_where_they_cost(
    start: Bundle, calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsigned = apply(StaticInt8(weights="u8", per_channel=False), start, calibration, tmp_path)
    signed = apply(StaticInt8(), start, calibration, tmp_path)
    for machine, told in (("x86_64-avx512vnni", True), ("aarch64-dotprod", False)):
        monkeypatch.setattr(explain, "machine_class", lambda machine=machine: machine)
        said = [explained(each, calibration.items[0]) for each in (unsigned, signed)]
        assert ["which VNNI does not multiply" in each for each in said] == [told, False]


def test_a_runtime_that_says_nothing_and_one_that_fails_explain_nothing(start: Bundle) -> None:
    own = Candidate(START, "as it is", start, ())
    assert explained(msgspec.structs.replace(own, runtime="some"), b"") == ""
    assert explained(msgspec.structs.replace(own, runtime="openvino"), b"no picture") == ""
    one = Fused(integer=1, floating=(), pairs=1, converted=("x",), share=0.25, bfloat16=2)
    assert one.sentence() == (
        "1 of 3 layers run in 8 bits; 2 of 3 layers run in bfloat16; 1 conversion between float and 8 bits "
        "did not fuse (x), 25% of its time"
    )
