"""What is learned of batches, and what follows from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.cost import CostModel

SIZES = (1, 2, 4, 8, 16, 32, 64)


def learned(cost: CostModel, seconds: dict[int, float]) -> CostModel:
    for rows, each in seconds.items():
        for _ in range(40):
            cost.observe(rows, each)
    return cost


def test_nothing_known_allows_everything_and_predicts_nothing() -> None:
    cost = CostModel(32)
    assert cost.best_rows() == 32 and cost.predict(5) == 0.0 and cost.row == 0.0
    assert cost.per_second() == float("inf") and cost.patience(1, 5) == 0.0


def test_a_call_with_a_price_of_its_own_is_batched_as_far_as_allowed() -> None:
    cost = learned(CostModel(32), {n: 5e-3 + 0.2e-3 * n for n in SIZES[:6]})
    assert cost.best_rows() == 32
    assert cost.predict(32) == pytest.approx(11.4e-3, rel=0.02)
    assert cost.per_second() == pytest.approx(2807, rel=0.02)


def test_a_network_that_grows_dearer_by_the_row_is_not_batched() -> None:
    cost = learned(CostModel(32), {1: 5.9e-3, 2: 12.4e-3, 4: 26e-3, 16: 113e-3})
    assert cost.best_rows() == 1


def test_of_sizes_that_cost_the_same_the_smallest_is_taken() -> None:
    cost = learned(CostModel(64), {1: 130e-6, 2: 220e-6, 4: 400e-6, 8: 780e-6, 16: 1.53e-3, 32: 3.05e-3})
    assert cost.best_rows() in (4, 8, 16)


def test_a_size_that_was_never_tried_is_tried_while_larger_was_better() -> None:
    cost = learned(CostModel(64), {1: 5.2e-3, 2: 5.4e-3})
    assert cost.best_rows() == 4
    assert learned(CostModel(64), {1: 1e-3}).best_rows() == 2
    assert learned(CostModel(64), {1: 9e-3, 2: 18e-3}).best_rows() == 1


def test_runs_stay_within_what_was_promised() -> None:
    curve = {n: 5e-3 + 1e-3 * n for n in SIZES}
    assert learned(CostModel(64), curve).best_rows() == 64
    assert learned(CostModel(64, longest=0.015), curve).best_rows() == 8
    assert learned(CostModel(64, longest=0.001), curve).best_rows() == 1


def test_a_wrong_first_impression_heals_under_load() -> None:
    cost = learned(CostModel(32), {1: 1e-3, 2: 4e-3})
    true = {1: 1e-3, 2: 1.1e-3, 4: 1.3e-3, 8: 1.7e-3, 16: 2.5e-3, 32: 4.1e-3}
    assert cost.best_rows() == 1
    for _ in range(4000):
        rows = cost.next_rows(backlog=True)
        cost.observe(rows, true[rows])
    assert cost.best_rows() == 32


def test_one_stall_is_not_what_a_size_costs() -> None:
    cost = learned(CostModel(8), {1: 1e-3, 2: 1.2e-3})
    cost.observe(2, 5.0)
    assert cost.predict(2) < 3e-3


def test_waiting_is_worth_it_only_for_others_and_only_where_it_saves() -> None:
    dear = learned(CostModel(32), {n: 5e-3 + 0.2e-3 * n for n in SIZES[:6]})
    assert dear.patience(1, 0) == 0.0
    assert 0.5e-3 < dear.patience(1, 7) < 2e-3
    assert dear.patience(32, 7) == 0.0
    even = learned(CostModel(32), {n: 6e-3 * n for n in SIZES[:6]})
    assert even.patience(1, 7) == 0.0


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(1e-6, 10.0)), min_size=1, max_size=200))
def test_whatever_is_seen_the_answers_stay_in_bounds(runs: list[tuple[int, float]]) -> None:
    cost = CostModel(64, longest=1.0)
    for rows, seconds in runs:
        cost.observe(rows, seconds)
        assert 1 <= cost.best_rows() <= 64 and 1 <= cost.next_rows(backlog=True) <= 64
        assert cost.predict(rows) > 0.0 and cost.row > 0.0
        assert cost.patience(1, rows) >= 0.0


def test_what_is_done_item_by_item_makes_no_batch_cheaper() -> None:
    # The network costs the same for every row, and the first item of all took long to decode.
    cost = CostModel(64)
    for rows in (1, 2, 4):
        cost.observe(rows, 8e-3 * rows)
    cost.observe(1, 30e-3, apart=22e-3)
    for _ in range(20):
        cost.observe(4, (8e-3 + 2e-3) * 4, apart=2e-3 * 4)
    assert cost.best_rows() == 1
    assert cost.predict(4) == pytest.approx(4 * 10e-3, rel=0.1), "and the whole is what a run takes"


def test_a_network_that_batches_well_does_so_behind_slow_decoding_too() -> None:
    cost = CostModel(8)
    for _ in range(10):
        for rows in (1, 2, 4, 8):
            cost.observe(rows, 5e-3 + 1e-3 * rows, apart=0.5e-3 * rows)
    assert cost.best_rows() == 8


def test_a_run_with_every_core_says_how_busy_the_machine_is_and_nothing_of_sizes() -> None:
    cost = learned(CostModel(8), {1: 10e-3, 2: 22e-3})
    assert cost.predict_alone(1) == 0.0
    cost.observe(1, 6e-3, wide=True)
    assert cost.predict_alone(1) == pytest.approx(6e-3, rel=0.05) and cost.predict_alone(8) == 0.0
    assert set(cost.curve()) == {1, 2} and cost.best_rows() == 1
    for _ in range(30):
        cost.observe(1, 50e-3)
    assert cost.predict(1) > 40e-3 and cost.predict_alone(1) > 20e-3
    for _ in range(30):
        cost.observe(1, 6e-3, wide=True)
    assert cost.predict_alone(1) == pytest.approx(6e-3, rel=0.1)
    assert cost.predict(1) < 20e-3, "the spell is over for runs beside others too"


def test_what_only_ever_ran_alone_says_nothing_of_sizes() -> None:
    cost = CostModel(8)
    cost.observe(1, 6e-3, wide=True)
    assert cost.best_rows() == 8 and cost.row == 0.0 and cost.predict(1) == 0.0 and cost.curve() == {}
