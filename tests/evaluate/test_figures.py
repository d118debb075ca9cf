"""Metrics against the libraries that are known for them, and intervals against what they promise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn

from modelport.errors import InputError, NotFound, UsageError
from modelport.evaluate import plots
from modelport.evaluate.bootstrap import check, draws, with_intervals
from modelport.evaluate.classification import ClassificationScorer
from modelport.evaluate.compare import compare, mcnemar
from modelport.evaluate.detection import DetectionScorer
from modelport.evaluate.matching import match
from modelport.evaluate.regression import RegressionScorer
from modelport.evaluate.ultralytics_map import ultralytics_map
from modelport.evaluate.values import Classified, Detected, Evaluation, Measured, Outcome, Resampling
from modelport.evaluate.values import read as read_evaluation
from modelport.evaluate.values import write as write_evaluation


def classified(truth: Sequence[int], answers: Sequence[int]) -> list[Classified]:
    return [
        Classified(str(item), (int(true),), (int(said),), (), 0 if true == said else -1)
        for item, (true, said) in enumerate(zip(truth, answers, strict=True))
    ]


def random_classes(count: int = 300, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, classes, count)
    return truth, np.where(rng.random(count) < 0.6, truth, rng.integers(0, classes + 1, count))


def test_classification_is_scikit_learns_also_on_what_was_drawn() -> None:
    truth, answers = random_classes()
    scorer = ClassificationScorer(classified(truth, answers), 9)
    weights = next(draws(len(truth), Resampling(20, 3)))
    drawn = scorer.resampled(weights)
    for row, times in enumerate(weights):
        items = np.repeat(np.arange(len(truth)), times)
        precision, recall, f1, _ = sklearn.precision_recall_fscore_support(
            truth[items], answers[items], average="macro", zero_division=0
        )
        assert drawn["accuracy"][row] == pytest.approx(np.mean(truth[items] == answers[items]))
        assert drawn["precision"][row] == pytest.approx(precision)
        assert drawn["recall"][row] == pytest.approx(recall)
        assert drawn["f1"][row] == pytest.approx(f1)
    present, table = scorer.confusion()
    np.testing.assert_array_equal(table, sklearn.confusion_matrix(truth, answers, labels=present))


def test_a_part_of_a_confusion_matrix_shows_whole_mistakes_and_loses_no_item() -> None:
    table = np.diag(np.full(40, 5))
    for true, answered, times in ((3, 38, 4), (21, 7, 2), (0, 39, 1), (9, 10, 1)):
        table[true, answered] += times
    assert plots.most_confused(table, 4).tolist() == [3, 7, 21, 38]
    assert set(plots.most_confused(table, 9)) >= {0, 3, 7, 9, 10, 21, 38, 39}
    assert plots.most_confused(table, 40).tolist() == list(range(40))
    shown = plots.with_others(table, np.array([3, 7, 21, 38]))
    assert shown.tolist() == [
        [5, 0, 0, 4, 0],
        [0, 5, 0, 0, 0],
        [0, 2, 5, 0, 0],
        [0, 0, 0, 5, 0],
        [0, 0, 0, 0, table.sum() - 4 * 5 - 6],
    ]


def test_auc_is_scikit_learns_with_ties() -> None:
    rng = np.random.default_rng(6)
    truth = rng.integers(0, 2, 200)
    scores = np.round(np.clip(0.3 * truth + rng.random(200) * 0.7, 0, 1), 1)
    outcomes = []
    for number, (true, score) in enumerate(zip(truth.tolist(), scores.tolist(), strict=True)):
        best, pair = ((1, 0), (score, 1 - score)) if score >= 0.5 else ((0, 1), (1 - score, score))
        outcomes.append(Classified(str(number), (true,), best, pair, best.index(true)))
    scorer = ClassificationScorer(outcomes, 2)
    assert scorer.values()["auc"] == pytest.approx(sklearn.roc_auc_score(truth, scores))
    weights = next(draws(200, Resampling(1, 0)))
    drawn = sklearn.roc_auc_score(truth, scores, sample_weight=weights[0])
    assert scorer.resampled(weights)["auc"][0] == pytest.approx(drawn)
    assert ClassificationScorer(outcomes[:1], 2).values()["auc"] is None


def test_regression_is_scikit_learns() -> None:
    rng = np.random.default_rng(7)
    truth = rng.normal(1e6, 3, 100)
    answer = truth + rng.normal(0, 1, 100)
    outcomes = [Measured(str(n), t, a) for n, (t, a) in enumerate(zip(truth, answer, strict=True))]
    values = RegressionScorer(outcomes).values()
    assert values["rmse"] == pytest.approx(math.sqrt(sklearn.mean_squared_error(truth, answer)))
    assert values["mae"] == pytest.approx(sklearn.mean_absolute_error(truth, answer))
    assert values["r2"] == pytest.approx(sklearn.r2_score(truth, answer), abs=1e-6)
    assert RegressionScorer(outcomes[:1]).values()["r2"] is None


def random_pictures(seed: int, count: int = 12, crowds: bool = True) -> list[Detected]:
    """Pictures with true boxes, boxes near them, and boxes anywhere."""
    rng = np.random.default_rng(seed)
    outcomes = []
    for number in range(count):
        n, more = int(rng.integers(0, 7)), int(rng.integers(0, 20))
        corner, side = rng.uniform(0, 150, (n, 2)), rng.uniform(8, 90, (n, 2))
        true = np.concatenate([corner, corner + side], axis=1)
        classes = rng.integers(0, 4, n)
        near = np.repeat(true, 2, axis=0) + rng.normal(0, 5, (2 * n, 4))
        low = rng.uniform(0, 150, (more, 2))
        boxes = np.concatenate([near, np.concatenate([low, low + rng.uniform(5, 80, (more, 2))], axis=1)])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = np.round(rng.random(len(boxes)), 2).astype(np.float32)  # with ties
        order = np.argsort(-scores, kind="stable")
        found = np.concatenate([np.repeat(classes, 2), rng.integers(0, 5, more)])
        crowd = rng.random(n) < (0.2 if crowds else 0)
        outcomes.append(
            Detected(
                f"{number}.jpg",
                256,
                256,
                true,
                classes,
                crowd,
                boxes[order].astype(np.float32),
                scores[order],
                found[order],
            )
        )
    return outcomes


@pytest.mark.parametrize("seed", range(6))
def test_the_hits_give_the_figures_of_faster_coco_eval(seed: int) -> None:
    outcomes = random_pictures(seed)
    scorer = DetectionScorer(outcomes)
    values = scorer.values()
    once = scorer.resampled(np.ones((1, len(outcomes)), np.int32))
    for name in ("map", "map50", "map75", "mar100", "precision", "recall", "f1"):
        assert once[name][0] == pytest.approx(values[name], abs=1e-9), name
    assert 0 < (values["map"] or 0) < 1
    per_class = scorer.of_classes(["a", "b"])
    assert np.mean([each.figures["ap"] for each in per_class]) == pytest.approx(values["map"])
    assert [each.label for each in per_class] == ["a", "b", "2", "3"]


def test_pictures_drawn_twice_count_twice() -> None:
    outcomes = random_pictures(1, crowds=False)
    scorer = DetectionScorer(outcomes)
    weights = next(draws(len(outcomes), Resampling(8, 2)))
    drawn, threshold = scorer.resampled(weights), scorer.values()["score_threshold"]
    for row, times in enumerate(weights):
        whole = DetectionScorer([outcomes[n] for n in np.repeat(np.arange(len(outcomes)), times)])
        # Copies of a picture have equal scores, which a library takes one after the other.
        assert drawn["map"][row] == pytest.approx(whole.values()["map"], abs=0.03)
        kept = [(hits, hits.score >= threshold) for hits in scorer.hits.values()]
        found = sum(times[hits.picture[own]].sum() for hits, own in kept)
        right = sum(times[hits.picture[own & hits.hit[0]]].sum() for hits, own in kept)
        true = sum((times * hits.true).sum() for hits, _ in kept)
        assert drawn["precision"][row] == pytest.approx(right / found)
        assert drawn["recall"][row] == pytest.approx(right / true)
        assert drawn["f1"][row] == pytest.approx(2 * right / (found + true))


def test_no_box_no_truth_and_a_perfect_answer() -> None:
    box, none = np.array([[10.0, 10, 50, 60]]), np.empty((0, 4))
    ones, zeros = np.zeros(1, np.int64), np.zeros(0, np.int64)
    right = Detected(
        "a", 99, 99, box, ones, ones > 0, box.astype(np.float32), np.array([0.9], np.float32), ones
    )
    blind = Detected(
        "b", 99, 99, box, ones, ones > 0, none.astype(np.float32), zeros.astype(np.float32), zeros
    )
    empty = Detected(
        "c", 99, 99, none, zeros, zeros > 0, none.astype(np.float32), zeros.astype(np.float32), zeros
    )
    assert DetectionScorer([right, empty]).values()["map"] == pytest.approx(1)
    assert ultralytics_map([right, empty])["map"] == pytest.approx(0.995)
    assert DetectionScorer([blind]).values()["map"] == 0
    assert DetectionScorer([empty]).values()["map"] is None
    assert DetectionScorer([right, blind]).values()["recall"] == 0.5
    assert with_intervals(DetectionScorer([empty, empty]), 2, Resampling(10, 0))["map"].low is None


def test_the_best_score_chooses_first_and_a_crowd_takes_many() -> None:
    true = np.array([[0.0, 0, 10, 10], [0, 0, 10, 12]])
    found = np.array([[0.0, 0, 10, 11], [0, 0, 10, 10], [0, 0, 9, 10]])
    hit, ignored = match(found, true, np.array([False, False]))
    assert hit[0].tolist() == [True, True, False] and not ignored.any()
    hit, ignored = match(found, true, np.array([False, True]))
    assert hit[0].tolist() == [True, False, False] and ignored[0].tolist() == [False, True, True]


def test_intervals_are_the_same_for_a_seed_and_hold_what_they_promise() -> None:
    truth, answers = random_classes(400)
    scorer = ClassificationScorer(classified(truth, answers), 8)
    one, two = (with_intervals(scorer, 400, Resampling(500, 1)) for _ in range(2))
    assert one == two != with_intervals(scorer, 400, Resampling(500, 2))
    metric = one["accuracy"]
    expected = 1.96 * math.sqrt(metric.value * (1 - metric.value) / 400)  # type: ignore[operator]
    assert metric.high - metric.low == pytest.approx(2 * expected, rel=0.15)  # type: ignore[operator]
    rng, inside = np.random.default_rng(8), 0
    for trial in range(100):
        right = rng.random(150) < 0.7
        found = with_intervals(
            ClassificationScorer(classified(np.zeros(150), ~right), 2), 150, Resampling(200, trial)
        )
        inside += found["accuracy"].low <= 0.7 <= found["accuracy"].high  # type: ignore[operator]
    assert 88 <= inside <= 100


def test_large_draws_come_in_parts_with_the_same_weights() -> None:
    whole = np.concatenate(list(draws(1500, Resampling(4000, 9))))
    assert whole.shape == (4000, 1500) and (whole.sum(axis=1) == 1500).all()
    np.testing.assert_array_equal(whole[:5], next(draws(1500, Resampling(5, 9))))
    for wrong in (Resampling(-1, 0), Resampling(10, 0, 1.5)):
        with pytest.raises(UsageError):
            check(wrong)


def evaluation(outcomes: Sequence[Outcome], task: str, model: str = "one") -> Evaluation:
    return Evaluation(
        model=model,
        version="1",
        digest="",
        task=task,
        data="d",
        via="onnxruntime",
        items=len(outcomes),
        metrics={},
        resampling=Resampling(300, 0),
        outcomes=tuple(outcomes),
        labels=("a", "b", "c"),
    )


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 9), (1, 0), (25, 60), (400, 380)])
def test_mcnemar_is_scipys_exact_test(first: int, second: int) -> None:
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected)


def test_two_models_on_the_same_items() -> None:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 3, 500)
    worse = np.where(rng.random(500) < 0.7, truth, 2 - truth)
    better = np.where(rng.random(500) < 0.3, truth, worse)
    one, two = (
        evaluation(classified(truth, worse), "classification"),
        evaluation(classified(truth, better)[:480], "classification", "two"),
    )
    found = compare(one, two)
    change = found.changes["accuracy"]
    assert (found.items, found.left_out) == (480, 20)
    assert change.difference == pytest.approx(
        np.mean(better[:480] == truth[:480]) - np.mean(worse[:480] == truth[:480])
    )
    assert change.significant and change.low is not None and change.low > 0
    assert found.mcnemar is not None and found.mcnemar.only_first == 0 and found.mcnemar.p_value < 1e-6
    assert len(found.differing) == found.mcnemar.only_second
    same = compare(one, one)
    assert same.changes["accuracy"].low == same.changes["accuracy"].high == 0
    assert not same.changes["accuracy"].significant
    # Paired intervals are narrower than those of the two figures alone.
    alone = with_intervals(ClassificationScorer(classified(truth, worse), 3), 500, Resampling(300, 0))[
        "accuracy"
    ]
    assert change.high - change.low < alone.high - alone.low  # type: ignore[operator]
    with pytest.raises(InputError, match="no item in common"):
        compare(one, evaluation([], "classification"))
    with pytest.raises(InputError, match="cannot be compared"):
        compare(one, evaluation([], "regression"))


def test_detections_are_compared_picture_by_picture() -> None:
    outcomes = random_pictures(2)
    found = compare(evaluation(outcomes, "detection"), evaluation(outcomes[::-1], "detection"))
    assert found.changes["map"].difference == pytest.approx(0)
    assert found.mcnemar is None


def test_an_evaluation_is_kept_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    for outcomes, task in (
        (random_pictures(3), "detection"),
        (classified([0, 1], [0, 2]), "classification"),
        ([Measured("a", 1.0, 1.5)], "regression"),
    ):
        before = evaluation(outcomes, task)
        write_evaluation(before, path)
        after = read_evaluation(path)
        assert after.to_dict(outcomes=True) == before.to_dict(outcomes=True)
        if task == "detection":
            assert DetectionScorer(after.outcomes).values() == DetectionScorer(before.outcomes).values()  # type: ignore[arg-type]
    for text in ("[1]", "{}", "nonsense", '{"schema": "modelport.evaluate/1"}'):
        path.write_text(text)
        with pytest.raises(InputError, match="no evaluation"):
            read_evaluation(path)
    with pytest.raises(NotFound):
        read_evaluation(tmp_path / "gone.json")
