"""The genetic search: what it returns is allowed, follows from the seed, and is better than chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.algorithms.genetic import Masks, SubsetSearch, Vector
from emulator.algorithms.grouping import kl_divergence, mixtures

N_DEVICES, N_MOST = 80, 10


def skewed_labels(seed: int) -> Vector:
    """Label shares of 80 devices, each class dealt out by Dirichlet(0.1), as the papers do."""
    counts = np.random.default_rng(seed).dirichlet([0.1] * N_DEVICES, size=10).T + 1e-9
    shares: Vector = counts / counts.sum(axis=1, keepdims=True)
    return shares


def divergences(masks: Masks, shares: Vector) -> Vector:
    return kl_divergence(mixtures(masks.astype(float), shares), shares.mean(axis=0))


def test_it_beats_as_many_random_subsets() -> None:
    for seed in range(3):
        shares, rng = skewed_labels(seed), np.random.default_rng(seed)
        search = SubsetSearch(weights=np.ones(N_DEVICES), priorities=np.ones(N_DEVICES), budget=np.inf, n_most=N_MOST)
        members = search.run(lambda masks, shares=shares: divergences(masks, shares), rng)
        found = divergences(np.isin(np.arange(N_DEVICES), members)[None], shares)[0]

        n_evaluations = search.population * (search.n_generations + 1)
        random = np.zeros((n_evaluations, N_DEVICES), dtype=bool)
        for mask in random:
            mask[rng.permutation(N_DEVICES)[:N_MOST]] = True
        by_chance = divergences(random, shares)
        assert found < by_chance.min()
        assert found < 0.5 * np.median(by_chance)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.5, 30), st.integers(0, 1000))
def test_a_subset_keeps_to_its_budget_and_size(n_devices: int, n_most: int, budget: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 9, n_devices).astype(float)
    search = SubsetSearch(
        weights=weights,
        priorities=rng.random(n_devices) + 0.1,
        budget=budget,
        n_most=min(n_most, n_devices),
        n_generations=5,
    )
    members = search.run(lambda masks: -masks.sum(axis=1).astype(float), rng)

    assert 1 <= len(members) <= min(n_most, n_devices)
    assert len(members) == 1 or weights[members].sum() <= budget
    assert sorted(set(members.tolist())) == members.tolist()


def test_it_ends_with_what_is_good_enough() -> None:
    calls: list[int] = []

    def costs(masks: Masks) -> Vector:
        calls.append(len(masks))
        return np.zeros(len(masks))

    search = SubsetSearch(weights=np.ones(5), priorities=np.ones(5), budget=9, n_most=3)
    assert len(search.run(costs, np.random.default_rng(0), good_enough=0.0)) == 3
    assert calls == [search.population]


def test_members_of_low_priority_leave_first() -> None:
    priorities = np.array([1.0, 0.5, 0.25, 0.125])
    search = SubsetSearch(weights=np.ones(4), priorities=priorities, budget=2, n_most=4, n_generations=0)

    # Every mask holds all four before the budget, 2, is seen to.
    assert search.run(lambda masks: np.zeros(len(masks)), np.random.default_rng(0)).tolist() == [0, 1]


def test_the_same_seed_gives_the_same_subset() -> None:
    shares = skewed_labels(0)
    search = SubsetSearch(weights=np.ones(N_DEVICES), priorities=np.ones(N_DEVICES), budget=9, n_most=N_MOST)
    first, second, other = (
        search.run(lambda masks: divergences(masks, shares), np.random.default_rng(seed)).tolist() for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


@pytest.mark.parametrize("n_devices", [1, 2])
def test_very_few_devices_are_no_trouble(n_devices: int) -> None:
    search = SubsetSearch(weights=np.ones(n_devices), priorities=np.ones(n_devices), budget=1, n_most=1)

    assert len(search.run(lambda masks: np.zeros(len(masks)), np.random.default_rng(0))) == 1


def test_the_first_population_is_drawn_by_priority() -> None:
    """One member each, with priorities 9 and 1: nine in ten masks hold the first device."""
    seen: list[Masks] = []

    def costs(masks: Masks) -> Vector:
        seen.append(masks)
        return np.zeros(len(masks))

    priorities = np.array([9.0, 1.0])
    search = SubsetSearch(weights=np.ones(2), priorities=priorities, budget=9, n_most=1, n_generations=0)
    for seed in range(50):
        search.run(costs, np.random.default_rng(seed))

    # 2,000 draws: a standard deviation of 0.7 %
    assert np.concatenate(seen)[:, 0].mean() == pytest.approx(0.9, abs=0.03)
