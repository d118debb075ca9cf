"""Versions that a search makes and writes: where the bundle's is as long as may be, and what is none."""

from __future__ import annotations

import itertools
from pathlib import Path

import onnx
import pytest

import modelport
from modelport.bundle.layout import version_key
from modelport.bundle.store import Bundle
from modelport.errors import UsageError
from modelport.optimize.calibration import read_calibration
from modelport.optimize.candidate import apply
from modelport.optimize.passes.half import Half
from modelport.optimize.passes.int8 import StaticInt8
from modelport.optimize.passes.reduced import Reduced
from modelport.optimize.plan import Plan
from modelport.optimize.run import _free, _not_newest, optimize
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


@pytest.mark.parametrize("current", ["1", "9", "1.0", "v2", "1.0-rc1", "final", "4f180cf2" * 5, "a" * 62])
def test_the_next_version_is_behind_its_own(current: str, tmp_path: Path) -> None:
    """`serve` answers by the newest, as `version_key` orders them."""
    found = list(itertools.islice(_free(tmp_path, current), 2 if len(current) == 62 else 12))
    keys = [version_key(name) for name in (current, *found)]
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
    assert all(len(name) <= 64 for name in found)


@pytest.mark.parametrize("long", [63, 64])
def test_where_no_version_can_be_behind_it_one_is_asked_for(long: int, tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "colours.onnx")
    own = modelport.pack(tmp_path / "colours.onnx", out=tmp_path / "repo", recipe="raw", version="a" * long)
    with pytest.raises(UsageError, match="64 letters are the most") as refused:
        optimize(own, tmp_path / "none", out=tmp_path / "out")
    assert refused.value.hint == "give --model-version" and not (tmp_path / "out").exists()


def test_a_version_that_is_not_the_newest_is_said(start: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / start.manifest.name
    assert _not_newest(folder, "2") == ""
    start.derive(folder / "3", {}, version="3")
    assert _not_newest(folder, "3") == _not_newest(folder, "4") == ""
    said = _not_newest(folder, "3-better")
    assert said.startswith("version 3 is newer than 3-better: it is what `serve` answers by")


@pytest.mark.parametrize("given", ["v 2", "sub/2", ".."])
def test_pack_refuses_it_before_the_model_is_read(given: str, tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "colours.onnx")
    doing: list[str] = []
    with pytest.raises(UsageError, match="is no version of a bundle"):
        modelport.pack(
            tmp_path / "colours.onnx",
            out=tmp_path / "repo",
            recipe="raw",
            version=given,
            stage=lambda text, share: doing.append(text),
        )
    assert not doing and not (tmp_path / "repo").exists()


@pytest.mark.parametrize("given", ["v 2", "sub/2", "..", "", "-2", "a" * 65, "2\n"])
def test_what_is_no_version_is_refused_before_anything_is_made(
    given: str, start: Bundle, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is no version of a bundle") as refused:
        optimize(start, data, out=tmp_path / "out", plan=Plan(seconds=0.001), new_version=given)
    assert "at most 64" in (refused.value.hint or "")
    assert not (tmp_path / "out").exists()
