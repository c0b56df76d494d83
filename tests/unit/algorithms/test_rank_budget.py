"""Rank budgets: the schedule's closed form, and votes that meet the budget and revive nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.algorithms.ranks import arbitrated, cubic_budget, highest


def test_the_budget_is_whole_at_first_falls_by_a_cubic_and_stays_at_its_end() -> None:
    found = [cubic_budget(t, first=100, last=20, warm_up=2, decline=4) for t in range(9)]
    # 20 + 80 (1 - (t - 2) / 4)^3: at 1/4, 1/2 and 3/4 of the way 53.75, 30 and 21.25
    assert found == [100, 100, 100, 53, 30, 21, 20, 20, 20]


def test_a_decline_of_no_rounds_is_a_step() -> None:
    assert [cubic_budget(t, first=9, last=3, warm_up=1, decline=0) for t in range(4)] == [9, 9, 3, 3]


def test_the_highest_scores_are_marked_and_of_equal_ones_the_first() -> None:
    assert highest(np.array([1.0, 3.0, 2.0, 3.0, 2.0]), 3).tolist() == [False, True, True, True, False]


def mask(*bits: int) -> np.ndarray:
    return np.array(bits, dtype=bool)


def test_votes_are_weighted() -> None:
    votes = [mask(1, 1, 0), mask(0, 1, 1), mask(0, 1, 1)]
    sizes = np.zeros(3)
    assert arbitrated(mask(1, 1, 1), votes, [1, 1, 1], sizes, 2).tolist() == [False, True, True]
    assert arbitrated(mask(1, 1, 1), votes, [5, 1, 1], sizes, 2).tolist() == [True, True, False]


def test_more_than_half_of_the_votes_are_enough_and_the_rest_of_the_budget_is_filled_by_votes_and_then_by_size() -> (
    None
):
    votes = [mask(1, 1, 0, 0, 0), mask(1, 0, 1, 0, 0), mask(1, 0, 1, 0, 0)]
    sizes = np.array([0.0, 0.0, 0.0, 1.0, 2.0])
    # shares 1, 1/3, 2/3, 0, 0
    assert arbitrated(mask(1, 1, 1, 1, 1), votes, [1, 1, 1], sizes, 2).tolist() == [True, False, True, False, False]
    assert arbitrated(mask(1, 1, 1, 1, 1), votes, [1, 1, 1], sizes, 4).tolist() == [True, True, True, False, True]


def test_votes_are_about_the_held_ranks_alone() -> None:
    kept = arbitrated(mask(0, 1, 0, 1, 1), [mask(0, 0, 1)], [1], np.array([9.0, 1.0, 9.0, 2.0, 1.0]), 2)
    assert kept.tolist() == [False, False, False, True, True]


def test_without_a_voter_all_ranks_stay() -> None:
    assert arbitrated(mask(1, 0, 1), [], [], np.zeros(3), 1).tolist() == [True, False, True]


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 6), st.integers(0, 30))
def test_the_budget_is_met_exactly_and_no_rank_comes_back(seed: int, n_ranks: int, n_voters: int, budget: int) -> None:
    rng = np.random.default_rng(seed)
    held = rng.random(n_ranks) < 0.7
    n_held = int(held.sum())
    votes = [highest(rng.random(n_held), min(budget, n_held)) for _ in range(n_voters)]
    kept = arbitrated(held, votes, rng.integers(1, 20, n_voters).tolist(), rng.random(n_ranks), budget)
    assert kept.sum() == min(budget, n_held)
    assert not (kept & ~held).any()


@pytest.mark.parametrize("n_voters", [3, 7])
def test_shares_that_differ_by_rounding_are_equal(n_voters: int) -> None:
    votes = [mask(*(int(rank == voter % 3) for rank in range(3))) for voter in range(3 * n_voters)]
    kept = arbitrated(mask(1, 1, 1), votes, [0.1] * len(votes), np.array([1.0, 2.0, 3.0]), 1)
    assert kept.tolist() == [False, False, True]
