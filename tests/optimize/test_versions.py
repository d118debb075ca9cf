"""Versions that a search makes and writes: where the bundle's is as long as may be, and what is none."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import modelport
from modelport.bundle.store import Bundle
from modelport.errors import UsageError
from modelport.optimize.calibration import read_calibration
from modelport.optimize.candidate import apply
from modelport.optimize.passes.half import Half
from modelport.optimize.passes.int8 import StaticInt8
from modelport.optimize.passes.reduced import Reduced
from modelport.optimize.plan import Plan
from modelport.optimize.run import _free, optimize
from modelport.optimize.start import plain

from .networks import LABELS, RECIPE, network, pictures


@pytest.mark.parametrize("long", [39, 40, 52, 55, 58, 59, 60, 63, 64])
def test_each_step_of_a_bundle_with_a_long_version_has_another(long: int, tmp_path: Path) -> None:
    """A digest is a usual version: 40 letters, or 64."""
    onnx.save(network(), tmp_path / "colours.onnx")
    (tmp_path / "colours.toml").write_text(RECIPE)
    own = modelport.pack(
        tmp_path / "colours.onnx",
        out=tmp_path / "repo",
        recipe=tmp_path / "colours.toml",
        labels=LABELS,
        version="a" * long,
    )
    work = tmp_path / "work"
    start = plain(own, work / "start")
    calibration = read_calibration(start, pictures(tmp_path / "pictures", 12))
    half = apply(Half(), start, calibration, work)
    small = apply(StaticInt8(), start, calibration, work)
    photos = Reduced((32, 32)).written(small, work)
    on_both = Reduced((16, 16)).written(photos, work)
    versions = [each.manifest.version for each in (own, start, half.bundle, small.bundle)]
    versions += [each.bundle.manifest.version for each in (photos, on_both)]
    assert len(set(versions)) == len(versions) and all(len(each) <= 64 for each in versions)
    free = _free(tmp_path / "none", own.manifest.version)
    names = [next(free) for _ in range(11)]
    assert len(set(names)) == 11 and all(len(each) <= 64 for each in names)
    assert names[0].endswith("-optimized") and names[10].endswith("-optimized-11")


@pytest.mark.parametrize("given", ["v 2", "sub/2", "..", "", "-2", "a" * 65, "2\n"])
def test_what_is_no_version_is_refused_before_anything_is_made(
    given: str, start: Bundle, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is no version of a bundle") as refused:
        optimize(start, data, out=tmp_path / "out", plan=Plan(seconds=0.001), new_version=given)
    assert "at most 64" in (refused.value.hint or "")
    assert not (tmp_path / "out").exists()
