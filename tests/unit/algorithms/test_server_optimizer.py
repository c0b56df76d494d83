"""Server optimizers are the papers' formulas, and torch's where torch has them."""

import math
from typing import get_args

import numpy as np
import pytest
import torch

from emulator.algorithms.server_optimizer import NO_MOMENTS, ServerOptimizer, ServerOptimizerName
from emulator.records import Arrays

NAMES = get_args(ServerOptimizerName)
START = {"w": np.array([1.0, -2.0, 0.5], np.float32), "v": np.zeros((2, 2), np.float32)}


def means(n_rounds: int) -> list[Arrays]:
    """What each round changes."""
    rng = np.random.default_rng(0)
    return [{name: rng.normal(0, 0.1, array.shape).astype(np.float32) for name, array in START.items()}
            for _ in range(n_rounds)]  # fmt: skip


def run(optimizer: ServerOptimizer, changes: list[Arrays]) -> Arrays:
    state: Arrays = START
    moments = NO_MOMENTS
    for change in changes:
        after = {name: (array + change[name]).astype(np.float32) for name, array in state.items()}
        state, moments = optimizer.step(state, after, moments)
    return state


def test_fedavgm_is_the_sgd_of_torch_on_the_change_taken_as_a_gradient() -> None:
    changes = means(6)
    parameter = torch.nn.Parameter(torch.tensor(START["w"]))
    sgd = torch.optim.SGD([parameter], lr=0.7, momentum=0.9)
    for change in changes:
        parameter.grad = -torch.tensor(change["w"])
        sgd.step()
    found = run(ServerOptimizer(name="fedavgm", learning_rate=0.7), changes)
    assert found["w"] == pytest.approx(parameter.detach().numpy(), abs=1e-5)


def test_fedavgm_without_momentum_at_rate_one_is_the_mean() -> None:
    changes = means(4)
    found = run(ServerOptimizer(name="fedavgm", learning_rate=1.0, momentum=0.0), changes)
    assert found["w"] == pytest.approx(START["w"] + sum(change["w"] for change in changes), abs=1e-6)


def by_hand(name: str, x: float, changes: list[float], rate: float, beta_1: float, beta_2: float, tau: float) -> float:
    """Reddi et al. 2021, algorithm 2, for one coordinate."""
    m, v = 0.0, tau**2
    for delta in changes:
        m = beta_1 * m + (1 - beta_1) * delta
        if name == "fedadagrad":
            v = v + delta**2
        elif name == "fedyogi":
            v = v - (1 - beta_2) * delta**2 * math.copysign(1.0, v - delta**2)
        else:
            v = beta_2 * v + (1 - beta_2) * delta**2
        x = x + rate * m / (math.sqrt(v) + tau)
    return x


@pytest.mark.parametrize("name", ["fedadagrad", "fedadam", "fedyogi"])
def test_the_adaptive_ones_are_algorithm_2_coordinate_by_coordinate(name: ServerOptimizerName) -> None:
    changes = means(5)
    optimizer = ServerOptimizer(name=name, learning_rate=0.05, momentum=0.8, decay=0.95, adaptivity=1e-2)
    found = run(optimizer, changes)
    for at in range(3):
        expected = by_hand(
            name, float(START["w"][at]), [float(each["w"][at]) for each in changes], 0.05, 0.8, 0.95, 1e-2
        )
        assert found["w"][at] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_round_that_changes_nothing_is_no_step(name: ServerOptimizerName) -> None:
    optimizer = ServerOptimizer(name=name, learning_rate=0.1)
    [change] = means(1)
    after = {key: array + change[key] for key, array in START.items()}
    state, moments = optimizer.step(START, after, NO_MOMENTS)
    again, kept = optimizer.step(state, state, moments)
    assert again is state
    assert kept is moments


@pytest.mark.parametrize("name", NAMES)
def test_what_is_new_or_has_another_shape_begins_anew(name: ServerOptimizerName) -> None:
    optimizer = ServerOptimizer(name=name, learning_rate=0.1)
    small, large = {"w": np.zeros(2, np.float32)}, {"w": np.zeros(3, np.float32)}
    _, moments = optimizer.step(small, {"w": np.ones(2, np.float32)}, NO_MOMENTS)
    state, _ = optimizer.step(large, {"w": np.ones(3, np.float32)}, moments)
    fresh, _ = optimizer.step(large, {"w": np.ones(3, np.float32)}, NO_MOMENTS)
    assert np.array_equal(state["w"], fresh["w"])


def test_a_coordinate_that_nobody_changes_stays_where_nobody_ever_did() -> None:
    for name in NAMES:
        state = run(ServerOptimizer(name=name, learning_rate=0.1), [{**means(1)[0], "v": START["v"]}])
        assert not state["v"].any()
