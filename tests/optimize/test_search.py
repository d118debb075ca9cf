"""The search from beginning to end, and its judgements: what is wrong or slow on purpose is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.errors import UsageError
from modelport.evaluate.run import evaluate
from modelport.optimize import choose, measure
from modelport.optimize import search as searching
from modelport.optimize.agreement import ByAgreement, alike
from modelport.optimize.calibration import Calibration
from modelport.optimize.candidate import START, Candidate, Made, Pass, apply
from modelport.optimize.choose import settled
from modelport.optimize.clock import Clock, Told, silent
from modelport.optimize.intervals import Interval
from modelport.optimize.judge import ByLabels, Judgement, judged, needed
from modelport.optimize.measure import Figures
from modelport.optimize.outcome import Entry
from modelport.optimize.passes.half import Half
from modelport.optimize.passes.int8 import StaticInt8
from modelport.optimize.plan import Plan
from modelport.optimize.run import optimize
from modelport.optimize.search import Search
from modelport.runtimes.machine import choose_variant, machine_class
from modelport.runtimes.pipeline import Pipeline
from modelport.verify.replay import verify

from .networks import pictures


def what_passes_is_faster(patch: pytest.MonkeyPatch) -> None:
    """Whatever disturbs the measuring, one that passes has a latency that is surely less than the START's."""
    known, less = Interval(1.0, 1.0, 1.0), Interval(0.5, 0.4, 0.6)
    patch.setattr(measure, "ratio", lambda own, start, seed=0: known if own is start else less)
    patch.setattr(choose, "_surely_more", lambda one, other: False)


class Broken(msgspec.Struct, frozen=True):
    """8 bits with a scale that is wrong by a factor of 100."""

    name: ClassVar[str] = "broken-scale"
    id = "broken-scale"
    title = "a broken scale"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        made = StaticInt8().apply(network, calibration).network
        scale = next(t for t in made.graph.initializer if t.name.endswith("last_scale"))
        scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(-1), scale.name))
        return Made(made)


class Slow(msgspec.Struct, frozen=True):
    """The same answers, after a matrix product that takes long and changes nothing."""

    name: ClassVar[str] = "slow"
    id = "slow"
    title = "slow on purpose"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        own = onnx.ModelProto()
        own.CopyFrom(network)
        large = np.random.default_rng(0).normal(0, 1, (900, 900)).astype(np.float32)
        own.graph.initializer.append(numpy_helper.from_array(large, "large"))
        zero = numpy_helper.from_array(np.float32(0), "zero")
        own.graph.initializer.append(zero)
        first = own.graph.node[0]
        own.graph.node.extend(
            [
                helper.make_node("ReduceMean", ["x"], ["level"], keepdims=0),
                helper.make_node("Mul", ["large", "level"], ["scaled"]),
                helper.make_node("MatMul", ["large", "scaled"], ["product"]),
                helper.make_node("ReduceMean", ["product"], ["number"], keepdims=0),
                helper.make_node("Mul", ["number", "zero"], ["nothing"]),
                helper.make_node("Add", ["x", "nothing"], ["same"]),
            ]
        )
        first.input[0] = "same"
        return Made(own)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks alone: other runtimes and settings take time, and have a test of their own."""
    monkeypatch.setattr(searching, "ways", lambda candidate: iter(()))


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    return pictures(place / "pictures", 90)


def test_wrong_and_slow_on_purpose_are_refused(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: None
) -> None:
    tried: list[Pass] = [Broken(), Slow(), StaticInt8()]
    monkeypatch.setattr(Search, "passes", lambda self: iter(tried))
    search = Search(start, data, data, tmp_path, Plan(gate="estimate", margin=2.0), silent)
    entries, _ = search.run()
    entries, _ = settled(entries)
    by_id = {entry.id: entry for entry in entries}
    assert by_id["broken-scale"].status == "refused"
    assert "became" in by_id["broken-scale"].reason and by_id["broken-scale"].figures is None
    assert by_id["slow"].status == "slower" and "slower than the START" in by_id["slow"].reason
    assert by_id["static-int8-minmax-u8s8"].judgement is not None
    assert by_id["static-int8-minmax-u8s8"].judgement.verdict == "passes"


@pytest.mark.parametrize(
    ("at", "done"),
    [
        ("float16: making it", "found before"),
        (f"{StaticInt8().title}: comparing its answers", "made before"),
    ],
    ids=["judged", "made"],
)
def test_an_interrupted_search_goes_on_where_it_was(
    at: str,
    done: str,
    start: Bundle,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plain: None,
) -> None:
    monkeypatch.setattr(Search, "passes", lambda self: iter([StaticInt8(), Half()]))

    def interrupted(told: Told) -> None:
        if told.text == at:
            raise KeyboardInterrupt

    plan = Plan(gate="estimate", margin=2.0)
    with pytest.raises(KeyboardInterrupt):
        Search(start, data, data, tmp_path, plan, interrupted).run()
    made: list[str] = []
    original = StaticInt8.apply

    def counted(self: StaticInt8, network: onnx.ModelProto, calibration: Calibration) -> Made:
        made.append(self.id)
        return original(self, network, calibration)

    monkeypatch.setattr(StaticInt8, "apply", counted)
    said: list[Told] = []
    entries, _ = Search(start, data, data, tmp_path, plan, said.append).run()
    assert not made  # it was there already
    title = StaticInt8().title
    told = [each.text for each in said if each.text.startswith(f"{title}: ")]
    judged_now = [] if done == "found before" else [f"{title}: comparing its answers"]
    assert told == [f"{title}: {done}", *judged_now]
    assert "float16: making it" in [each.text for each in said]
    assert {entry.id for entry in entries} >= {"static-int8-minmax-u8s8", "fp16"}
    start.verify_files()


def test_a_new_version_has_the_best_form_and_runs_it(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what_passes_is_faster(monkeypatch)
    monkeypatch.setattr(Search, "passes", lambda self: iter([StaticInt8()]))
    report = optimize(start, data, out=tmp_path, labelled=data, plan=Plan(gate="estimate", margin=2.0))
    folder = tmp_path / "colours" / "2.report"
    kept = json.loads((folder / "report.json").read_text())
    assert kept["schema"] == "modelport.optimize/1" and kept["chosen"] == report.chosen
    assert (folder / "front.png").read_bytes().startswith(b"\x89PNG")
    assert "colours" in (folder / "report.html").read_text()
    statuses = {entry["id"]: entry["status"] for entry in kept["entries"]}
    assert statuses["start"] == "start" and all(entry["reason"] for entry in kept["entries"])
    assert report.written  # 8 bits or float16 are a quarter or half of the size, if nothing else
    new = Bundle.open(tmp_path / "colours" / "2")
    chosen = [variant for variant in new.manifest.variants if variant.chosen]
    assert chosen[0].name == report.chosen  # and perhaps its network without settings of this machine
    assert new.manifest.lineage.parent == start.digest
    with Pipeline.open(new) as pipeline:
        assert pipeline.variant == report.chosen
    assert verify(new).ok
    assert evaluate(new, data)["accuracy"] == 1.0
    with pytest.raises(UsageError, match="exists"):
        optimize(start, data, out=tmp_path, new_version="2")


def test_a_variant_of_another_class_of_machine_is_not_taken(start: Bundle, tmp_path: Path) -> None:
    from modelport.bundle.manifest import Variant

    data = start.graph("net")
    other = Variant("other", "net.other.onnx", {}, machine="s390x-none", chosen=True)
    mine = Variant("mine", "net.mine.onnx", {}, machine=machine_class(), chosen=True)
    for variants, wanted in (((other,), None), ((other, mine), "mine")):
        place = tmp_path / str(len(variants))
        files = {variant.file: data for variant in variants}
        bundle = start.derive(place, files, version="9", variants=variants)
        found = choose_variant(bundle.manifest, None)
        assert (found.name if found else None) == wanted
        assert choose_variant(bundle.manifest, "") is None
        named = choose_variant(bundle.manifest, "other")
        assert named is not None and named.name == "other"


def test_the_gate_holds_the_whole_interval(start: Bundle, data: Path) -> None:
    first = evaluate(start, data, replicates=0)
    wrong = list(first.outcomes)
    wrong[0] = msgspec.structs.replace(wrong[0], rank=2)
    second = msgspec.structs.replace(first, outcomes=tuple(wrong))
    strict, loose = (judged(first, second, 2.0, gate) for gate in ("interval", "estimate"))
    assert strict.loss == pytest.approx(100 / 90) and strict.high > 2
    assert (strict.verdict, loose.verdict) == ("undecided", "passes")
    assert judged(first, second, 1.0, "estimate").verdict == "fails"
    # 90 items of which none changes sides may hide 2.9 points
    assert (judged(first, first, 2.0).verdict, judged(first, first, 3.0).verdict) == ("undecided", "passes")
    more = needed(strict, 2.0)
    assert more is not None and more > 90
    assert needed(strict, 1.0) is None


def test_agreement_without_labels_is_called_that(start: Bundle, data: Path) -> None:
    from modelport.optimize.calibration import read_calibration

    items = read_calibration(start, data).items
    same = Candidate(START, "as it is", start, ())
    found = ByAgreement(same, items, 5.0, "interval").judge(same)
    assert (found.by, found.value, found.verdict, found.items) == ("agreement", 1.0, "passes", 90)
    # 90 items cannot show half a point
    assert ByAgreement(same, items, 0.5, "interval").judge(same).verdict == "undecided"


def test_what_is_hopeless_is_asked_a_part(start: Bundle, data: Path, tmp_path: Path) -> None:
    from modelport.optimize.calibration import read_calibration

    calibration = read_calibration(start, data)
    same = Candidate(START, "as it is", start, ())
    broken = apply(Broken(), start, calibration, tmp_path)
    found = ByAgreement(same, calibration.items, 0.5, "interval").judge(broken)
    assert (found.verdict, found.part, found.items) == ("fails", False, 90)  # too few to ask a part of them
    more = pictures(tmp_path / "more", 150)
    found = ByAgreement(same, read_calibration(start, more).items, 0.5, "interval").judge(broken)
    assert (found.verdict, found.part, found.items) == ("fails", True, 40) and found.low > 0.5
    kept = tmp_path / "start.json"
    judge = ByLabels(same, more, kept, {}, 0.5, "interval")
    found = judge.judge(broken)
    assert (found.verdict, found.part, found.items) == ("fails", True, 40) and found.low > 0.5
    assert judge.judge(same).items == 150
    written = kept.stat().st_mtime_ns
    assert ByLabels(same, more, kept, {}, 0.5, "interval").start.items == 150
    assert kept.stat().st_mtime_ns == written  # read, and not made again


def test_objects_are_alike_by_class_and_place() -> None:
    def answer(*objects: tuple[int, float, float]) -> dict[str, np.ndarray]:
        boxes = np.zeros((4, 4), np.float32)
        scores, classes = np.zeros(4, np.float32), np.full(4, -1)
        for number, (kind, left, score) in enumerate(objects):
            boxes[number] = (left, 0, left + 10, 10)
            scores[number], classes[number] = score, kind
        return {"boxes": boxes, "scores": scores, "classes": classes, "count": np.array(len(objects))}

    one = answer((1, 0, 0.9), (2, 50, 0.8))
    assert alike(one, one) == 1.0
    assert alike(one, answer((1, 1, 0.7), (2, 51, 0.6))) == 1.0
    assert alike(one, answer((1, 0, 0.9), (3, 50, 0.8))) == pytest.approx(1 / 3)
    assert alike(one, answer((1, 0, 0.9))) == 0.5
    assert alike(answer(), answer((1, 0, 0.1))) == 1.0  # nobody would have been shown it


def entry(name: str, ratio: float, low: float, high: float, size: int, loss: float = 0.0) -> Entry:
    figures = Figures(
        p50_ms=10 * ratio,
        p95_ms=12 * ratio,
        ratio=Interval(ratio, low, high),
        throughput=100 / ratio,
        batch=1,
        peak_bytes=1,
        start_seconds=1,
        size_bytes=size,
    )
    said = Judgement(
        by="accuracy",
        metric="accuracy",
        start=0.9,
        value=0.9,
        loss=loss,
        low=loss,
        high=loss,
        verdict="passes",
        items=1000,
    )
    status = "start" if name == "start" else "kept"
    return Entry(id=name, title=name, status=status, reason="", judgement=said, figures=figures)  # type: ignore[arg-type]


def test_ties_domination_and_slowness_are_told_by_intervals() -> None:
    found, best = settled(
        [
            entry("start", 1, 1, 1, 100),
            entry("fast", 0.40, 0.38, 0.42, 25),
            entry("alike", 0.41, 0.39, 0.44, 25),
            entry("worse", 0.80, 0.78, 0.82, 50, loss=0.2),
            entry("slow", 1.30, 1.20, 1.40, 25),
        ]
    )
    assert best == "fast"
    assert {each.id: each.status for each in found} == {
        "start": "start",
        "fast": "chosen",
        "alike": "tie",
        "worse": "dominated",
        "slow": "slower",
    }
    busy = entry("busy", 0.41, 0.39, 0.44, 25)
    assert busy.figures is not None
    more = msgspec.structs.replace(busy, figures=msgspec.structs.replace(busy.figures, throughput=600))
    said, best = settled([entry("start", 1, 1, 1, 100), entry("fast", 0.40, 0.38, 0.42, 25), more])
    decided = "of 2 whose latencies tie for the fastest, the one with the best throughput"
    assert best == "busy" and said[2].reason.startswith(decided)
    _, smaller = settled([entry("start", 1, 1, 1, 100), entry("half", 1.0, 0.95, 1.05, 50)])
    assert smaller == "half"
    _, unsure = settled([entry("start", 1, 1, 1, 100), entry("half", 1.9, 0.9, 2.3, 50)])
    assert unsure == "start"  # smaller, and perhaps twice as slow
    _, none = settled([entry("start", 1, 1, 1, 100), entry("same", 1.0, 0.95, 1.05, 99)])
    assert none == "start"


def test_the_command_says_what_it_found(
    start: Bundle,
    data: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Clock, "over", property(lambda self: True))
    code = run(
        [
            "optimize",
            str(start.path),
            "--data",
            str(data),
            "--max-drop",
            "0",
            "--budget",
            "5s",
            "-o",
            str(tmp_path),
        ]
    )
    out, err = capfd.readouterr()
    assert code == 1 and "nothing better was found" in err
    assert err.count("90 items cannot show 0 points by agreement") == 1
    assert str(tmp_path / "colours" / "2.report") in "".join(out.split())
    kept = re.search(
        r"not tried: the last (\d+) s of the time budget are kept for measuring", " ".join(out.split())
    )
    assert kept is not None and 1 <= int(kept[1]) <= 5
    assert not (tmp_path / "colours" / "2").exists()
    assert (
        run(["optimize", str(start.path), "--data", str(data), "--budget", "soon", "-o", str(tmp_path)]) == 2
    )


def test_the_report_s_schema_is_published() -> None:
    """To renew it: `print(json.dumps(report_schema(), indent=2))`."""
    from modelport.optimize.outcome import report_schema

    published = Path(__file__).parents[2] / "docs" / "reference" / "optimize-report.schema.json"
    assert published.read_text() == json.dumps(report_schema(), indent=2) + "\n"
