"""What a judgement rests on: items that fail, items that are too few, and a START that fails itself."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from modelport.bundle.store import Bundle
from modelport.errors import InputError
from modelport.evaluate.run import evaluate
from modelport.evaluate.values import Detected, Evaluation, Failure, Measured, Metric, Resampling, read, write
from modelport.optimize.agreement import ByAgreement, same_answers
from modelport.optimize.calibration import Calibration, read_calibration
from modelport.optimize.candidate import START, Candidate, Made, Pass, apply, network_of
from modelport.optimize.choose import gate_reason
from modelport.optimize.clock import silent
from modelport.optimize.enough import few_labels
from modelport.optimize.judge import ByLabels, Judgement, judged, needed, same
from modelport.optimize.passes.half import Half
from modelport.optimize.passes.runtime import OnRuntime
from modelport.optimize.passes.unused import Unused
from modelport.optimize.plan import Plan
from modelport.optimize.repeat import repeat
from modelport.optimize.run import optimize
from modelport.optimize.search import Search
from modelport.optimize.shares import answers_needed, unseen

from ..evaluate.networks import pack_rows
from .networks import pictures


class Overflowing(msgspec.Struct, frozen=True):
    """The same scores, but NaN where the largest is over `limit`: what an overflow leaves."""

    limit: float
    name: ClassVar[str] = "overflowing"
    id = "overflowing"
    title = "an overflow"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        own = onnx.ModelProto()
        own.CopyFrom(network)
        own.graph.node[-1].output[0] = "scores"
        values = {"steep": np.float32(1e6), "limit": np.float32(self.limit), "nothing": np.float32(0)}
        own.graph.initializer.extend(
            numpy_helper.from_array(np.array(value), name) for name, value in values.items()
        )
        own.graph.node.extend(
            [
                helper.make_node("ReduceMax", ["scores"], ["largest"], axes=[1], keepdims=1),
                helper.make_node("Sub", ["largest", "limit"], ["over"]),
                helper.make_node("Mul", ["over", "steep"], ["steeply"]),
                helper.make_node("Exp", ["steeply"], ["infinite"]),
                helper.make_node("Mul", ["infinite", "nothing"], ["zero"]),
                helper.make_node("Add", ["scores", "zero"], ["logits"]),
            ]
        )
        return Made(own)


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    """As many as have a part asked first."""
    return pictures(place / "pictures", 150)


@pytest.fixture(scope="module")
def few(place: Path) -> Path:
    """All are asked at once."""
    return pictures(place / "few", 24)


def over(start: Bundle, data: Path, share: float) -> Overflowing:
    """Of so many of the items the scores are NaN."""
    import onnxruntime

    session = onnxruntime.InferenceSession(network_of(start).SerializeToString())
    prepared = read_calibration(start, data).prepared
    largest = [float(session.run(None, {"x": item["x"][None]})[0].max()) for item in prepared]
    return Overflowing(float(np.quantile(largest, 1 - share)))


def candidate(step: Pass, start: Bundle, data: Path, folder: Path) -> Candidate:
    return apply(step, start, read_calibration(start, data), folder)


def test_what_fails_on_part_of_the_items_is_refused(start: Bundle, few: Path, tmp_path: Path) -> None:
    own = Candidate(START, "as it is", start, ())
    part = candidate(over(start, few, 0.2), start, few, tmp_path)
    assert len(evaluate(part.bundle, few, replicates=0).failed) == 5
    items = read_calibration(start, few).items
    for judge in (
        ByLabels(own, few, tmp_path / "start.json", {}, 50.0, "estimate"),
        ByAgreement(own, items, 50.0, "estimate"),
    ):
        assert judge.notes == () and judge.judge(own).verdict == "passes"
        found = judge.judge(part)
        assert (found.verdict, found.failed, found.items, found.part) == ("fails", 5, 19, False)
        assert found.loss == 0.0  # of those that both answer
        said = gate_reason(found, 50.0)
        assert said.startswith("fails on 5 of 24 items that the START answers: the answer holds NaN")


def test_what_fails_among_the_first_is_asked_no_more(start: Bundle, data: Path, tmp_path: Path) -> None:
    own = Candidate(START, "as it is", start, ())
    part = candidate(over(start, data, 0.2), start, data, tmp_path)
    items = read_calibration(start, data).items
    for judge in (
        ByLabels(own, data, tmp_path / "start.json", {}, 50.0, "interval"),
        ByAgreement(own, items, 50.0, "interval"),
    ):
        found = judge.judge(part)
        assert found.failed > 0 and found.part and found.items + found.failed == 40
        assert gate_reason(found, 50.0).endswith("; the other items were not asked")


def test_a_search_refuses_what_fails_on_part_of_the_items(
    start: Bundle, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = over(start, few, 0.2)
    monkeypatch.setattr(Search, "bases", lambda self: iter(()))
    monkeypatch.setattr(Search, "passes", lambda self: iter([step]))
    monkeypatch.setattr("modelport.optimize.search.ways", lambda candidate: iter(()))
    for labelled in (few, None):
        plan = Plan(gate="estimate", margin=50.0)
        report = optimize(start, few, out=tmp_path, labelled=labelled, plan=plan)
        (entry,) = (entry for entry in report.entries if entry.id == step.id)
        assert entry.status == "refused" and entry.reason.startswith("fails on 5 of 24 items")
        assert entry.judgement is not None and entry.judgement.failed == 5


def test_what_the_start_does_not_answer_is_left_out(start: Bundle, few: Path, tmp_path: Path) -> None:
    broken = candidate(over(start, few, 0.2), start, few, tmp_path)
    own = Candidate(START, "as it is", start, ())
    search = Search(broken.bundle, few, few, tmp_path / "work", Plan(), silent)
    assert search.judge.judge(own).failed == 0 and search.judge.judge(own).items == 19
    said = "the bundle as it is fails on 5 of 24 items that candidates are judged on, which are left out: "
    assert any(note.startswith(said) for note in search.notes)
    items = [*read_calibration(start, few).items, b"no picture"]
    judge = ByAgreement(own, items, 50.0, "interval")
    said = "the bundle as it is fails on 1 of 25 items that candidates are judged on, which is left out: "
    assert judge.notes[0].startswith(said)
    found = judge.judge(own)
    assert (found.verdict, found.failed, found.items) == ("passes", 0, 24)
    assert same_answers(own, own, items[:-1]) and not same_answers(own, own, items)


def test_a_start_that_answers_nothing_ends_the_search(
    start: Bundle, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Candidate(START, "as it is", start, ())
    with pytest.raises(InputError, match="the bundle as it is answers none of 2 items, and at least 1 "):
        ByAgreement(own, [b"no picture", b"nor this"], 0.5, "interval")
    monkeypatch.setattr(Search, "bases", lambda self: iter(()))
    monkeypatch.setattr(Search, "passes", lambda self: iter([Overflowing(1e9)]))
    monkeypatch.setattr("modelport.optimize.search.ways", lambda candidate: iter(()))
    monkeypatch.setattr(Search, "_answered", (b"no picture", b"nor this"))
    with pytest.raises(InputError, match="the bundle as it is answers none of 2 items"):
        Search(start, few, None, tmp_path, Plan(gate="estimate"), silent).run()


class Raising(msgspec.Struct, frozen=True):
    """The same scores, but an index out of its table where the largest is over `limit`."""

    limit: float
    name: ClassVar[str] = "raising"
    id = "raising"
    title = "an index out of its table"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        own = onnx.ModelProto()
        own.CopyFrom(network)
        own.graph.node[-1].output[0] = "scores"
        values = {"limit": np.array(self.limit, np.float32), "table": np.zeros(1, np.float32)}
        own.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
        own.graph.node.extend(
            [
                helper.make_node("ReduceMax", ["scores"], ["largest"], keepdims=0),
                helper.make_node("Greater", ["largest", "limit"], ["over"]),
                helper.make_node("Cast", ["over"], ["place"], to=onnx.TensorProto.INT64),
                helper.make_node("Gather", ["table", "place"], ["zero"]),
                helper.make_node("Add", ["scores", "zero"], ["logits"]),
            ]
        )
        return Made(own)


def test_a_start_that_fails_on_some_items_is_searched_on_the_others(
    start: Bundle, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = candidate(Raising(over(start, few, 0.2).limit), start, few, tmp_path).bundle
    monkeypatch.setattr(Search, "bases", lambda self: iter(()))
    monkeypatch.setattr(Search, "passes", lambda self: iter([Half()]))
    monkeypatch.setattr("modelport.optimize.search.ways", lambda candidate: iter(()))
    report = optimize(bundle, few, out=tmp_path / "out", plan=Plan(gate="estimate", margin=50.0))
    assert report.items == 19  # and measured on them
    for use in ("ranges and times are taken of", "candidates are judged on"):
        said = f"the bundle as it is fails on 5 of 24 items that {use}, which are left out: the graph failed"
        assert any(note.startswith(said) for note in report.notes)
    (entry,) = (entry for entry in report.entries if entry.id == Half().id)
    assert entry.judgement is not None and entry.figures is not None
    assert (entry.judgement.verdict, entry.judgement.items, entry.judgement.failed) == ("passes", 19, 0)
    none = candidate(Raising(-1e9), start, few, tmp_path / "none").bundle
    with pytest.raises(InputError, match="answers none of 24 items, and at least 8 are needed; the first"):
        optimize(none, few, out=tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_few_items_of_which_none_changes_show_little(start: Bundle, data: Path, few: Path) -> None:
    first = evaluate(start, few, replicates=0)
    assert unseen(8) == pytest.approx(0.2527, abs=1e-4) and unseen(539) <= 0.005 < unseen(538)
    for margin, verdict in ((0.5, "undecided"), (10.0, "undecided"), (10.2, "passes")):
        found = judged(first, first, margin)
        assert (found.loss, found.verdict) == (0.0, verdict)
        assert found.high == pytest.approx(100 * unseen(24)) and found.low == 0.0
        assert needed(found, margin) == answers_needed(margin)
        assert bool(few_labels(first, margin)) is (verdict == "undecided")  # as was said before
    assert judged(first, first, 0.5, "estimate").verdict == "passes"
    worse = msgspec.structs.replace(first, outcomes=(_wrong(first.outcomes[0]), *first.outcomes[1:]))
    assert judged(worse, first, 0.5).high == pytest.approx(100 * unseen(24))  # one was gained
    many = _repeated(first, 23)
    assert len(many.outcomes) == 552 and judged(many, many, 0.5).verdict == "passes"


def _wrong(outcome: object) -> object:
    return msgspec.structs.replace(outcome, rank=2)  # type: ignore[type-var]


def _repeated(evaluation: Evaluation, times: int) -> Evaluation:
    """As many items as that, with names of their own."""
    outcomes = (
        msgspec.structs.replace(outcome, item=f"{number}/{outcome.item}")
        for number in range(times)
        for outcome in evaluation.outcomes
    )
    return msgspec.structs.replace(evaluation, outcomes=tuple(outcomes))


def test_one_item_shows_nothing(start: Bundle, few: Path) -> None:
    alone = evaluate(start, few, replicates=0, limit=1)
    found = judged(alone, alone, 0.5)
    assert (found.verdict, found.low, found.high) == ("undecided", -100.0, 100.0)
    assert judged(alone, alone, 0.5, "estimate").verdict == "passes"
    number = _regression([1.0], [1.5])
    assert judged(number, number, 0.5).verdict == "undecided"


def test_numbers_of_which_none_moves_are_the_same_arithmetic() -> None:
    first = _regression([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [1.1, 2.2, 2.9, 4.0, 5.3, 6.1, 7.0, 8.2])
    found = judged(first, first, 0.5)
    assert (found.metric, found.verdict, found.high) == ("rmse", "passes", 0.0)
    assert few_labels(first, 0.5) == ""


def _regression(truth: list[float], answers: list[float]) -> Evaluation:
    outcomes = tuple(
        Measured(str(number), *pair) for number, pair in enumerate(zip(truth, answers, strict=True))
    )
    return _evaluation("regression", "rmse", 1.0, outcomes)


def _evaluation(task: str, metric: str, value: float | None, outcomes: tuple[object, ...]) -> Evaluation:
    return Evaluation(
        model="m",
        version="1",
        digest="",
        task=task,
        data="rows",
        via="onnxruntime",
        items=len(outcomes),
        metrics={metric: Metric(value)},
        resampling=Resampling(0, 0),
        outcomes=outcomes,  # type: ignore[arg-type]
    )


def _picture(name: str, boxes: int) -> Detected:
    found = np.array([[10.0, 10.0, 50.0, 50.0]] * boxes).reshape(-1, 4)
    return Detected(
        item=name,
        width=100,
        height=100,
        true_boxes=found,
        true_classes=np.zeros(boxes, np.int64),
        crowd=np.zeros(boxes, bool),
        boxes=found.astype(np.float32),
        scores=np.full(boxes, 0.9, np.float32),
        classes=np.zeros(boxes, np.int64),
    )


def test_pictures_are_the_items_of_a_detector() -> None:
    pytest.importorskip("faster_coco_eval")
    pair = _evaluation("detection", "map", 1.0, tuple(_picture(str(n), 1) for n in range(10)))
    found = judged(pair, pair, 0.5)
    assert (found.metric, found.loss, found.verdict) == ("map", 0.0, "undecided")
    assert found.high == pytest.approx(100 * unseen(10)) and needed(found, 0.5) == 539
    assert few_labels(pair, 0.5).startswith("10 labelled items cannot show 0.5 points, only 21.3: about 540")


def test_data_without_a_true_box_are_refused(
    start: Bundle, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, kept = Candidate(START, "as it is", start, ()), tmp_path / "start.json"
    write(_evaluation("detection", "map", None, tuple(_picture(str(n), 0) for n in range(10))), kept)
    with pytest.raises(InputError, match=r"rows: none of 10 items has a true box .* there is no map"):
        ByLabels(own, few, kept, {}, 0.5, "interval")
    monkeypatch.setattr("modelport.optimize.search.evaluated", lambda *given: read(kept))
    said: list[str] = []
    search = Search(start, few, few, tmp_path / "work", Plan(), lambda told: said.append(told.text))
    with pytest.raises(InputError, match="has a true box"):
        search.run()
    assert not any("making it" in text for text in said)


def test_labels_and_agreement_are_asked_with_the_same_caution(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Candidate(START, "as it is", start, ())
    items = read_calibration(start, data).items
    judge = ByAgreement(own, items, 5.0, "interval")
    asked = iter(range(1000))
    differing = 5
    monkeypatch.setattr("modelport.optimize.agreement.alike", lambda *two: float(next(asked) >= differing))
    found = judge.judge(own)  # 5 of 40: at least 6.3 points at one-sided 95 %, 4.9 at 99 %
    assert not found.part and found.items == len(items)
    asked, differing = iter(range(1000)), 6
    found = judge.judge(own)
    assert found.part and found.items == 40 and found.low == pytest.approx(6.16, abs=0.01)


def test_a_failure_of_an_item_that_the_start_fails_on_is_none(start: Bundle, few: Path) -> None:
    first = evaluate(start, few, replicates=0)
    name = first.outcomes[0].item
    without = msgspec.structs.replace(
        first, outcomes=first.outcomes[1:], failed=(Failure(name, "the answer holds NaN"),)
    )
    assert judged(without, without, 50.0).failed == 0
    assert judged(without, first, 50.0).failed == 0 and judged(without, first, 50.0).items == 23
    found: Judgement = judged(first, without, 50.0)
    assert (found.failed, found.verdict, found.error) == (1, "fails", "the answer holds NaN")


def test_what_computes_the_same_is_not_judged_when_it_is_repeated(
    start: Bundle, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = network_of(start)
    dead.graph.node.append(helper.make_node("Neg", ["x"], ["nothing"], name="nothing"))
    files = {start.manifest.graphs.net.file: dead.SerializeToString()}
    bundle = start.derive(tmp_path / "dead", files, version="7")
    monkeypatch.setattr(Search, "bases", lambda self: iter([Unused()]))
    monkeypatch.setattr(Search, "passes", lambda self: iter(()))
    switched = [OnRuntime("onnxruntime", {"threads": 1})]
    monkeypatch.setattr("modelport.optimize.search.ways", lambda candidate: iter(switched))
    monkeypatch.setattr("modelport.optimize.ways.GAIN", 1000.0)
    report = optimize(bundle, few, out=tmp_path / "out", labelled=few)
    name = "unused-on-onnxruntime-threads-1"
    assert next(each.judgement for each in report.entries if each.id == name) == same(8)
    again = repeat(report, name)
    assert again.judgement == same(8) and "verdict" not in again.changed


def test_a_part_of_the_targets_is_read_as_all_of_them_are(tmp_path: Path) -> None:
    """Counts of which a part are all 0 or 1, like classes, and the answers like probabilities."""
    bundle = pack_rows(tmp_path, "share")
    rows = ["a,b,target"] + [f"{row % 3},1,{row % 2}" for row in range(150)]
    rows[-1] = "2,1,3"
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    candidate = Candidate(START, "as it is", bundle, ())
    judge = ByLabels(candidate, tmp_path / "rows.csv", tmp_path / "kept.json", {}, 0.5, "interval")
    assert judge.start.task == "regression"
    found = judge.judge(candidate)
    assert (found.metric, found.verdict, found.items) == ("rmse", "passes", 150)
