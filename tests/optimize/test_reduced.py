"""Photos decoded at a fraction of their sides: offered where it helps, judged like everything else."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from modelport.bundle.manifest import Manifest
from modelport.bundle.store import Bundle
from modelport.optimize import search as searching
from modelport.optimize.calibration import Calibration, read_calibration
from modelport.optimize.candidate import START, NotApplicable
from modelport.optimize.clock import silent
from modelport.optimize.outcome import Entry
from modelport.optimize.passes.half import Half
from modelport.optimize.passes.reduced import Reduced, reductions, sides
from modelport.optimize.plan import Plan
from modelport.optimize.recipe import key_of_making
from modelport.optimize.repeat import repeat
from modelport.optimize.run import optimize
from modelport.optimize.search import Search
from modelport.optimize.variants import write_version
from modelport.runtimes.pipeline import Pipeline
from modelport.tensors import Array

from .networks import LABELS, packed, pictures

SIDE, COUNT = 96, 24


def photos(folder: Path, side: int, dotted: bool = False) -> Path:
    """JPEG photos in a folder for each class: of one colour, or with dots of it on what is gray."""
    random = np.random.default_rng(2)
    for number in range(COUNT):
        pixels = random.integers(0, 60, (side, side, 3), dtype=np.uint8) + np.uint8(40 + number)
        pixels[...] = pixels[..., :1]
        # Where a picture of 16 x 16 takes its pixels from, and only there.
        colour = (_middles(side)[:, None] & _middles(side)[None]) if dotted else np.s_[:, :]
        pixels[..., number % 3][colour] = 230
        folder.joinpath(LABELS[number % 3]).mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=98, subsampling=0)
        (folder / LABELS[number % 3] / f"{number:02d}.jpg").write_bytes(file.getvalue())
    return folder


def _middles(side: int) -> Array:
    step = side // 16
    return np.isin(np.arange(side) % step, (step // 2 - 1, step // 2))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return packed(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("large"), SIDE)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """One network, in both numbers; and whatever a quick look says of the time."""
    monkeypatch.setattr(searching, "ways", lambda candidate: iter(()))
    monkeypatch.setattr("modelport.optimize.ways.GAIN", float("inf"))
    monkeypatch.setattr(Search, "bases", lambda self: iter(()))
    monkeypatch.setattr(Search, "passes", lambda self: iter([Half()]))


def offered(bundle: Bundle, calibration: Calibration) -> dict[str, str]:
    return {step.id: reason for step, reason in reductions(bundle, calibration)}


def test_what_is_offered(start: Bundle, large: Path, tmp_path: Path) -> None:
    known = read_calibration(start, large)
    assert offered(start, known) == {"photos-32x32": "", "photos-16x16": ""}
    # Of 256 pixels an eighth is 32: whoever asks for less gets no less.
    alike = offered(start, read_calibration(start, photos(tmp_path / "larger", 256)))
    assert alike["photos-16x16"] == "the items are decoded as with at least 32 x 32"
    small = offered(start, read_calibration(start, pictures(tmp_path / "small", 12)))
    assert small == {"photos-16x16": "no item is a JPEG of which half is that large: the largest has 20 x 20"}
    middling = offered(start, read_calibration(start, photos(tmp_path / "middling", 48)))
    assert middling["photos-32x32"].endswith("48 x 48") and not middling["photos-16x16"]


def test_where_no_size_is_known_or_the_answer_is_in_the_photo_s_pixels(start: Bundle) -> None:
    def with_steps(*pre: dict[str, dict[str, object]]) -> Manifest:
        steps = msgspec.structs.replace(start.manifest.steps, pre=pre)
        return msgspec.structs.replace(start.manifest, steps=steps)

    assert sides(with_steps({"resize": {"shorter": 224, "crop_fraction": 0.875}})) == (256, 256)
    assert sides(with_steps({"letterbox": {"size": [96, 160]}})) == (96, 160)
    with pytest.raises(NotApplicable, match="its first step is grayscale"):
        sides(with_steps({"grayscale": {}}, {"resize": {"size": 28}}))
    with pytest.raises(NotApplicable, match="its steps are not listed"):
        sides(with_steps())


def test_the_fastest_network_on_the_smallest_photos_is_written_and_made_again(
    start: Bundle, large: Path, tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Search, "_measured", lambda self: self.entries)  # nothing here is of the time
    plan = Plan(gate="estimate", margin=5.0)
    search = Search(start, large, large, tmp_path / "work", plan, silent)
    entries, made = search.run()
    by_id: dict[str, Entry] = {entry.id: entry for entry in entries}
    assert {"start-photos-32x32", "start-photos-16x16", "fp16-photos-16x16"} <= by_id.keys()
    # It was right there, so that nothing more careful is asked for.
    assert "fp16-photos-32x32" not in by_id
    best = by_id["fp16-photos-16x16"]
    assert best.status == "kept" and best.title.endswith(
        "photos decoded at 1/2, 1/4 or 1/8, at least 16 x 16"
    )
    assert best.notes[-1] == f"of {COUNT} items {COUNT} at 1/4"

    written = write_version(start, tmp_path / "2", entries, made, best.id)
    forms = {each.name: each for each in written.manifest.variants}
    assert forms[best.id].reduced == (16, 16) and forms[best.id].chosen
    assert forms["start-photos-16x16"].file == start.manifest.graphs.net.file
    assert forms["start-photos-16x16"].machine == ""
    assert forms["fp16"].reduced is None and forms["fp16"].file == forms[best.id].file
    photo = next(large.rglob("*.jpg")).read_bytes()
    with Pipeline.open(written) as pipeline:
        assert pipeline.decode(photo)["image"].shape == (SIDE // 4, SIDE // 4, 3)

    # Whoever goes on with the same question finds it as it was made.
    key = key_of_making(Reduced((16, 16)), made["fp16"])
    kept = search.found.candidate(best.id, key, lambda folder: pytest.fail("it is there"))
    assert kept.reduced == (16, 16)


def test_what_loses_the_answer_is_refused_and_repeated(
    start: Bundle, tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Search, "passes", lambda self: iter(()))
    data = photos(tmp_path / "dotted", 256, dotted=True)
    report = optimize(start, data, out=tmp_path / "out", labelled=data, plan=Plan(gate="estimate"))
    by_id = {entry.id: entry for entry in report.entries}
    refused = by_id["start-photos-32x32"]
    assert refused.status == "refused" and refused.recipe is not None
    assert list(refused.recipe.fields["least"]) == [32, 32] and refused.recipe.base == START
    assert by_id[Reduced((16, 16)).id].status == "skipped"
    found = repeat(report, "start-photos-32x32")
    assert found.judgement == refused.judgement
