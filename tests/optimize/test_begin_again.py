"""What a search begins with, and what of an earlier one still holds: variants, and what was found before."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from modelport import plugins
from modelport.bundle.manifest import Variant
from modelport.bundle.store import Bundle
from modelport.errors import InputError, ModelportError, Unavailable, Unsupported
from modelport.optimize import start as starting
from modelport.optimize.bench import plan as versions
from modelport.optimize.candidate import START, Candidate, apply
from modelport.optimize.clock import Clock, Told, silent
from modelport.optimize.passes.half import Half
from modelport.optimize.passes.low_rank import LowRank
from modelport.optimize.passes.runtime import OnRuntime
from modelport.optimize.plan import Plan
from modelport.optimize.run import _ended
from modelport.optimize.search import Search
from modelport.optimize.start import begun_from, question
from modelport.optimize.variants import write_version
from modelport.optimize.ways import refused, ways
from modelport.runtimes.machine import choose_variant, machine_class

from .networks import packed, pictures
from .test_passes_more import NOTHING, dense
from .test_search import entry

ELSEWHERE = "s390x-none"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("again")


@pytest.fixture(scope="module")
def start(place: Path) -> Bundle:
    return packed(place)


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    return pictures(place / "pictures", 12)


def test_what_was_found_holds_for_the_same_programs_processor_and_data(
    start: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pictures(tmp_path / "pictures", 4)
    before = question(start, data, None)
    assert question(start, data, None) == before != question(start, data, data)
    with monkeypatch.context() as patch:
        patch.setattr(versions, "__version__", "0.0.0")
        assert question(start, data, None) != before
    with monkeypatch.context() as patch:
        patch.setattr(starting, "machine_class", lambda: ELSEWHERE)
        assert question(start, data, None) != before
    one = next(data.rglob("*.png"))
    one.write_bytes(one.read_bytes() + b"\0")
    changed = question(start, data, None)
    assert changed != before
    one.unlink()
    assert question(start, data, None) not in (before, changed)
    assert question(start, one, None)  # what is not there is refused by its reader


BOXES = {
    "images": [{"id": 0, "file_name": "0.png"}],
    "annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 1, 4, 4]}],
    "categories": [{"id": 1, "name": "red"}],
}


@pytest.mark.parametrize(
    ("name", "text", "corrected"),
    [
        ("named/data.yaml", "path: ../there\nval: images\nnames: [red]\n", "labels/0.txt"),
        ("named/list.txt", "../there/images/0.png\n", "labels/0.txt"),
        ("there/annotations/boxes.json", json.dumps(BOXES), "images/0.png"),
        ("named/table.csv", "file,label\n../there/images/0.png,red\n", "images/0.png"),
    ],
)
def test_what_labelled_data_name_elsewhere_is_part_of_the_question(
    name: str, text: str, corrected: str, start: Bundle, data: Path, tmp_path: Path
) -> None:
    task = "image-classification" if name.endswith(".csv") else "object-detection"
    bundle = msgspec.structs.replace(start, manifest=msgspec.structs.replace(start.manifest, task=task))
    picture, labels, place = (tmp_path / each for each in ("there/images/0.png", "there/labels/0.txt", name))
    for path in (picture, labels, place):
        path.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(next(data.rglob("*.png")).read_bytes())
    labels.write_text("0 0.5 0.5 0.2 0.2\n")
    place.write_text(text)
    before = question(bundle, data, place)
    assert question(bundle, data, place) == before
    changed = tmp_path / "there" / corrected
    changed.write_bytes(changed.read_bytes().replace(b"0.2 0.2", b"0.2 0.3") + b"\n")
    assert question(bundle, data, place) != before
    place.write_text("")  # no data: its reader says so
    assert question(bundle, data, place)


def test_what_was_found_holds_for_the_same_plugins(
    start: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Point:
        class dist:
            name, version = "theirs", "1.0"

    before = question(start, data, None)
    monkeypatch.setattr(starting, "entry_points", lambda group: [Point] * group.endswith("passes"))
    first = question(start, data, None)
    monkeypatch.setattr(Point.dist, "version", "1.1")
    assert len({str(each) for each in (before, first, question(start, data, None))}) == 3


def test_a_bundle_that_is_optimized_says_what_is_compared_with(
    start: Bundle, data: Path, tmp_path: Path
) -> None:
    assert begun_from(start) == ""
    net = start.manifest.graphs.net.file
    mine = Variant("quick", net, {}, machine=machine_class(), chosen=True, settings={"arena": False})
    other = Variant("theirs", net, {}, machine=ELSEWHERE, chosen=True)
    bundle = start.derive(tmp_path / "2", {}, version="2", variants=(mine, other))
    text = (
        "colours 2 runs here as its variant quick: the search begins with the network as it was packed, and "
        "compares with that (`modelport bench` compares a variant with what is written); "
        f"the variants for {ELSEWHERE} stay"
    )
    assert begun_from(bundle) == text
    said: list[Told] = []
    search = Search(bundle, data, None, tmp_path / "work", Plan(seconds=0, gate="estimate"), said.append)
    search.run()
    assert said[0].text == "colours 2: reading the items"
    assert next(told.text for told in said if told.lasting) == text == search.notes[0]


def test_variants_for_other_machines_stay(start: Bundle, tmp_path: Path) -> None:
    half = apply(Half(), start, NOTHING, tmp_path)
    theirs = start.graph("net") + b"\x12\x00"  # another file: the producer named anew
    files = {"net.fp16.onnx": theirs}
    kept = Variant("fp16", "net.fp16.onnx", {}, machine=ELSEWHERE, chosen=True)
    stale = Variant("slow", start.manifest.graphs.net.file, {}, machine=machine_class(), chosen=True)
    second = start.derive(tmp_path / "two" / "2", files, version="2", variants=(kept, stale))
    found = msgspec.structs.replace(entry("fp16", 0.5, 0.4, 0.6, 50), status="chosen")
    third = write_version(second, tmp_path / "two" / "3", [found], {"fp16": half}, "fp16")
    assert "- `fp16`" in third.read("README.md").decode()
    by_name = {each.name: each for each in third.manifest.variants}
    assert list(by_name) == [f"fp16-{ELSEWHERE}", "fp16"]
    there, here = by_name[f"fp16-{ELSEWHERE}"], by_name["fp16"]
    assert (there.file, here.file) == ("net.fp16.onnx", "net.fp16-2.onnx")
    assert third.read(there.file) == theirs and third.read(here.file) == half.bundle.graph("net")
    chosen = choose_variant(third.manifest, None)
    assert chosen is not None and chosen.name == "fp16"
    third.verify_files()
    same = write_version(second, tmp_path / "two" / "4", [found], {"fp16": half}, "fp16")
    assert same.manifest.variants == third.manifest.variants


class Absent:
    """A runtime whose package is not there."""

    def __init__(self) -> None:
        raise Unsupported("absent is not installed", hint="pip install absent")


def test_no_way_of_running_it_is_left_out_in_silence(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(plugins.BUILT_IN["runtimes"], "absent", f"{__name__}:Absent")
    plugins.table.cache_clear()
    try:
        own = Candidate(START, "as it is", start, ())
        assert OnRuntime("absent") in list(ways(own))
        assert refused(OnRuntime("absent"), own, NOTHING) == "absent is not installed; pip install absent"
        assert refused(OnRuntime("onnxruntime", {"arena": False}), own, NOTHING) == ""
        monkeypatch.setattr(Clock, "over", property(lambda self: True))
        entries, _ = Search(start, data, None, tmp_path, Plan(gate="estimate"), silent).run()
    finally:
        plugins.table.cache_clear()
    late = {each.id for each in entries if each.status == "skipped" and "not tried: the last" in each.reason}
    assert late >= {"start-on-absent", "start-on-onnxruntime-threads-1"} or os.cpu_count() == 1


@pytest.mark.parametrize(
    ("place", "number", "kind", "text"),
    [
        ("{out}/net.onnx", errno.EACCES, Unavailable, "cannot write what was found: "),
        ("{tmp}/modelport-x/item", errno.EROFS, Unavailable, "cannot write what was found: "),
        ("/data/labels.csv", errno.EACCES, InputError, "cannot read /data/labels.csv: "),
        ("/data/photo.jpg", errno.EIO, InputError, "cannot read /data/photo.jpg: "),
        ("/elsewhere/full", errno.ENOSPC, Unavailable, "cannot write what was found: "),
        (None, errno.EMFILE, Unavailable, "the system ended the search: "),
    ],
    ids=["out", "temporary", "labels", "broken", "full", "too-many-files"],
)
def test_what_the_system_refuses_is_told_as_what_it_is(
    place: str | None, number: int, kind: type[ModelportError], text: str
) -> None:
    out = Path("/somewhere/out")
    name = place and place.format(out=out, tmp=tempfile.gettempdir())
    problem = OSError(number, os.strerror(number), name) if name else OSError(number, os.strerror(number))
    told = _ended(problem, out)
    assert type(told) is kind and told.message.startswith(text) and os.strerror(number) in told.message
    assert "run the same again" in told.hint


def test_an_output_folder_that_cannot_be_made_is_written_to_and_not_read() -> None:
    out = Path("/nowhere/out")
    told = _ended(OSError(errno.EPERM, "Operation not permitted", "/nowhere"), out, [out, out.parent])
    assert type(told) is InputError and told.message == "cannot write to /nowhere: Operation not permitted"
    assert told.hint == "give -o a folder that can be written"


def test_low_rank_decomposes_each_matrix_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    original = np.linalg.eigh

    def counted(matrix: np.ndarray) -> object:
        asked.append(matrix.shape)
        return original(matrix)

    monkeypatch.setattr(np.linalg, "eigh", counted)
    monkeypatch.delattr(np.linalg, "svd")
    LowRank(0.9999999).apply(dense(rank=12), NOTHING)
    assert len(asked) == 3 and all(rows == columns for rows, columns in asked)
