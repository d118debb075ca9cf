"""Which candidate is the best: what cannot be told apart decides nothing, and the reason says what did."""

from __future__ import annotations

import msgspec

from modelport.optimize.choose import settled
from modelport.optimize.intervals import Interval
from modelport.optimize.outcome import Entry

from .test_search import entry

START = entry("start", 1, 1, 1, 100)


def made(
    name: str,
    ratio: tuple[float, float, float],
    rate: tuple[float, float, float],
    *,
    loss: float = 0.0,
    steps: int = 1,
) -> Entry:
    """A candidate with an interval of its throughput, made in so many steps."""
    found = entry(name, *ratio, 25, loss)
    assert found.figures is not None
    figures = msgspec.structs.replace(found.figures, throughput=rate[0], throughput_interval=Interval(*rate))
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


def test_one_round_tells_no_throughputs_apart_that_are_near() -> None:
    for rate, best in ((75.0, "right"), (50.0, "fast")):
        found, _ = chosen(
            made("fast", (0.40, 0.30, 0.50), (80.0, 80.0, 80.0), loss=0.3),
            made("right", (0.42, 0.32, 0.52), (rate, rate, rate)),
        )
        assert found == best


def test_what_the_version_has_beside_the_best_says_why() -> None:
    best = made("best", (0.40, 0.38, 0.42), (100.0, 95.0, 105.0), loss=0.3)
    right = made("right", (0.60, 0.58, 0.62), (90.0, 85.0, 95.0))
    found, _ = settled([START, best, right])
    assert found[2].status == "kept"
    assert found[2].reason.endswith("; beside best it loses less; the version has it as well, for --variant")
