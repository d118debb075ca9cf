"""Which candidate is the best, and which are worth having beside it; the reasons say what is so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelport.bundle.store import Bundle
from modelport.optimize.calibration import read_calibration
from modelport.optimize.candidate import apply
from modelport.optimize.choose import faster, settled
from modelport.optimize.explain import explained
from modelport.optimize.intervals import Interval
from modelport.optimize.outcome import Entry
from modelport.optimize.passes.int8 import StaticInt8

from .test_search import entry

START = entry("start", 1, 1, 1, 100)


def made(
    name: str,
    ratio: tuple[float, float, float],
    rate: tuple[float, float, float],
    *,
    loss: float = 0.0,
    steps: int = 1,
    **more: Any,
) -> Entry:
    """A candidate with an interval of its throughput, made in so many steps; and other figures of it."""
    found = entry(name, *ratio, 25, loss)
    assert found.figures is not None
    figures = msgspec.structs.replace(
        found.figures, throughput=rate[0], throughput_interval=Interval(*rate), **more
    )
    passes = tuple(f"step-{number}" for number in range(steps))
    return msgspec.structs.replace(found, figures=figures, passes=passes)


def chosen(*entries: Entry) -> tuple[str, str]:
    found, best = settled([START, *entries])
    return best, next(each.reason for each in found if each.id == best)


def test_of_what_ties_in_both_the_one_that_loses_least_is_chosen() -> None:
    """The figures of a SqueezeNet on a busy machine: throughput alone took the one that loses most."""
    best, reason = chosen(
        made("reduced", (0.57, 0.42, 0.68), (139.6, 139.2, 140.1), loss=0.5),
        made("minmax-photos", (0.64, 0.53, 0.89), (146.3, 137.3, 155.4), loss=0.5, steps=2),
        made("percentile", (0.53, 0.42, 0.62), (126.7, 115.1, 138.4), loss=-0.5),
        made("openvino", (0.40, 0.33, 0.48), (106.3, 88.5, 124.0)),
        made("spinning", (0.36, 0.36, 0.45), (120.1, 89.5, 150.7), loss=0.5, steps=2),
    )
    assert best == "percentile"
    # `minmax-photos` is surely slower than `spinning`, and `openvino` has surely less throughput.
    tied = "of 4 whose latencies tie for the fastest, 3 tie for the best throughput"
    assert reason.startswith(f"{tied}, and it loses the least of these: 0.53 of the START's latency")


def test_a_step_that_gains_next_to_nothing_is_not_taken() -> None:
    plain = made("plain", (0.57, 0.42, 0.68), (139.6, 130.0, 150.0))
    photos = made("plain-photos", (0.55, 0.44, 0.68), (145.7, 138.0, 151.0), steps=2)
    best, reason = chosen(photos, plain)
    assert best == "plain" and "it was made in the fewest (1 step): 0.57" in reason
    assert "all tie for the best throughput, all of these lose the least alike" in reason
    more = made("plain-photos", (0.55, 0.44, 0.68), (149.0, 138.0, 151.0), steps=2)
    best, reason = chosen(more, plain)
    assert best == "plain-photos" and "and it has the best throughput of those: 0.55" in reason


def test_none_that_another_is_surely_faster_than_is_chosen() -> None:
    """It may tie with the fastest all the same: ties are not handed on."""
    best, _ = chosen(
        made("fastest", (0.36, 0.35, 0.46), (100.0, 95.0, 105.0)),
        made("steady", (0.40, 0.38, 0.43), (101.0, 96.0, 106.0)),
        made("busy", (0.59, 0.44, 0.68), (200.0, 190.0, 210.0)),
    )
    assert best == "steady"


def placed(*entries: Entry) -> dict[str, tuple[str, str]]:
    """Status and reason of each."""
    found, _ = settled([START, *entries])
    return {each.id: (each.status, each.reason) for each in found}


def test_one_round_tells_only_throughputs_apart_that_are_far() -> None:
    """Those of one network differ by half on a busy machine."""
    for rate, best in ((150.0, "right"), (115.0, "right"), (105.0, "fast"), (60.0, "fast")):
        found, _ = chosen(
            made("fast", (0.40, 0.30, 0.50), (160.0, 160.0, 160.0), loss=0.3),
            made("right", (0.42, 0.32, 0.52), (rate, rate, rate)),
        )
        assert found == best


def test_what_the_version_has_beside_the_best_says_why() -> None:
    best = made("best", (0.40, 0.38, 0.42), (100.0, 95.0, 105.0), loss=0.3)
    right = made("right", (0.60, 0.58, 0.62), (90.0, 85.0, 95.0))
    found, _ = settled([START, best, right])
    assert found[2].status == "kept"
    assert found[2].reason.endswith("; beside best it loses less; the version has it as well, for --variant")


BEST = made("best", (0.40, 0.38, 0.42), (200.0, 195.0, 205.0))
ALIKE = (0.40, 0.37, 0.43), (198.0, 193.0, 203.0)
"""A latency and a throughput that cannot be told from the best one's."""


def test_one_that_is_surely_slower_is_not_taken_for_its_size() -> None:
    """By a hundredth to four; one that may as well be faster is."""
    found, best = settled([START, made("small", (1.02, 1.01, 1.04), (100.0, 98.0, 102.0))])
    assert best == "start" and found[1].status == "slower"
    found, best = settled([START, made("small", (1.01, 0.99, 1.04), (100.0, 98.0, 102.0))])
    assert best == "small" and found[1].reason.startswith("smaller, and not slower: 1.01")


def test_what_answers_fewer_items_a_second_than_the_start_is_not_chosen() -> None:
    """Alone it is a little faster; with every core at work it answers little more than half as many."""
    lonely = made("lonely", (0.95, 0.93, 0.97), (60.0, 58.0, 62.0))
    found, best = settled([START, lonely])
    assert best == "start" and found[1].status == "kept"
    assert found[1].reason == (
        "0.95 of the START's latency (0.93 to 0.97), with less throughput than that: 60.0 items/s to 100.0; "
        "beside the START it is faster and it is smaller"
    )
    assert faster(found) == []  # nor is it what other machines take
    same = made("same", (0.985, 0.98, 0.99), (100.0, 98.0, 102.0))
    found, best = settled([START, lonely, same])
    assert best == "same" and found[2].reason.startswith(
        "the fastest that passes, among those with no less throughput than the START: 0.9"
    )
    assert "; beside same it is faster; the version has it as well" in found[1].reason
    # Nor is it taken for its size.
    _, best = settled([START, made("small", (1.0, 0.97, 1.03), (60.0, 58.0, 62.0))])
    assert best == "start"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"size_bytes": 20}, "it is smaller"),
        ({"peak_bytes": 80}, "it takes less memory"),
        ({"start_seconds": 0.7}, "it starts sooner"),
        ({"p95_interval": Interval(3.0, 2.9, 3.1)}, "its slowest calls are faster"),
        ({"loss": -0.5}, "it loses less"),
    ],
)
def test_what_is_better_in_something_is_kept_for_it(more: dict[str, Any], said: str) -> None:
    """It is slower than the best, and faster than the bundle as it is."""
    common: dict[str, Any] = {
        "peak_bytes": 100,
        "start_seconds": 1.0,
        "p95_interval": Interval(5.0, 4.8, 5.2),
    }
    best = made("best", (0.40, 0.38, 0.42), (200.0, 195.0, 205.0), **common)
    behind = (0.60, 0.58, 0.62), (150.0, 145.0, 155.0)
    found = placed(best, made("other", *behind, **common | more))
    assert found["best"][0] == "chosen"
    times = "0.60 of the START's latency (0.58 to 0.62)"
    assert found["other"] == (
        "kept",
        f"{times}; beside best {said}; the version has it as well, for --variant",
    )
    # Within what is measured by chance, or what nobody keeps a form for.
    little: dict[str, Any] = {"size_bytes": 24, "peak_bytes": 95, "start_seconds": 0.8}
    found = placed(best, made("other", *behind, **common | little))
    said = "best is as good or better in all that is measured, as far as can be told"
    assert found["other"] == ("dominated", f"{said}: {times}")


def test_of_those_that_are_kept_for_the_same_one_is_enough() -> None:
    right = made("right", (0.60, 0.58, 0.62), (150.0, 145.0, 155.0))
    again = made("again", (0.61, 0.59, 0.63), (150.0, 145.0, 155.0))
    best = made("best", (0.40, 0.38, 0.42), (200.0, 195.0, 205.0), loss=0.3)
    found = placed(again, best, right)
    assert [found[name][0] for name in ("best", "right", "again")] == ["chosen", "kept", "dominated"]
    assert found["again"][1].startswith("right is as good or better in all that is measured")


def test_what_has_nothing_before_the_bundle_as_it_is_is_not_kept() -> None:
    found, best = settled([START, entry("same", 1.0, 0.95, 1.05, 99)])
    assert best == "start" and found[1].status == "dominated"
    assert found[1].reason.startswith("the START is as good or better in all that is measured")


def test_a_tie_is_one_in_latency_throughput_and_loss() -> None:
    found = placed(BEST, made("alike", *ALIKE, steps=2))
    tied = "tie with best: the intervals of latency and throughput meet, and it loses no more"
    assert found["alike"] == ("tie", tied)
    fewer = made("fewer", ALIKE[0], (150.0, 145.0, 155.0))
    lossy = made("lossy", *ALIKE, loss=0.1)
    found = placed(BEST, fewer, lossy)
    for name in ("fewer", "lossy"):
        assert found[name][0] == "dominated" and found[name][1].startswith("best is as good or better in all")
    known = lossy.judgement
    assert known is not None
    lossy = msgspec.structs.replace(lossy, judgement=msgspec.structs.replace(known, low=-0.3, high=0.5))
    status, reason = placed(BEST, lossy)["lossy"]  # as well by chance
    assert status == "tie" and reason.endswith("and of what is lost; it loses more as it was seen")
    light = made("light", *ALIKE, steps=2, size_bytes=10)
    assert placed(BEST, light)["light"][0] == "kept"  # it may as well be as fast, and is smaller


def test_one_that_is_slower_is_kept_where_it_answers_more_items_a_second() -> None:
    found = placed(BEST, made("busy", (1.10, 1.05, 1.15), (300.0, 290.0, 310.0)))
    assert found["busy"][0] == "kept" and "beside best it has more throughput" in found["busy"][1]
    found = placed(made("busy", (1.10, 1.05, 1.15), (103.0, 90.0, 116.0)))
    assert found["busy"][0] == "slower"  # three hundredths more are none


def test_an_8_bit_form_that_is_slower_says_what_stayed_in_float(
    start: Bundle, data: Path, tmp_path: Path
) -> None:
    calibration = read_calibration(start, data)
    mixed = apply(StaticInt8(kept=("second",)), start, calibration, tmp_path)
    said = explained(mixed, calibration.items[0])
    slow = msgspec.structs.replace(made(mixed.id, (1.3, 1.2, 1.4), (80.0, 78.0, 82.0)), explained=said)
    status, reason = placed(slow)[mixed.id]
    assert status == "slower"
    assert reason.startswith("slower than the START: 1.30 of the START's latency (1.20 to 1.40); ")
    assert "of 3 layers run in 8 bits; in float stayed second" in reason
    assert "between float and 8 bits did not fuse (" in reason
