"""LoRA-FAIR: the corrected B brings the product closer to the mean product, as far as the objective allows."""

import numpy as np
import pytest
from numpy.typing import NDArray

from emulator.errors import ConfigError
from emulator.policy.catalog import build_policy
from policies.fedlora import FedLora
from policies.lorafair import LoraFair, corrected_b, objective
from tests.unit.policies.exact_means import SITES, mean_of_products, one_round, product

Matrix = NDArray[np.float64]


def cosine(one: Matrix, other: Matrix) -> float:
    return float(np.sum(one * other) / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize(("layer", "target"), SITES)
def test_the_product_turns_towards_the_mean_product(layer: int, target: str) -> None:
    _, state, updates, corrected = one_round(LoraFair(rank=3, regularization=1e-6))
    _, _, _, plain = one_round(FedLora(rank=3))
    exact = mean_of_products(updates, layer, target, state)

    assert cosine(product(corrected, layer, target), exact) > cosine(product(plain, layer, target), exact)


def test_a_is_averaged_as_in_fedlora() -> None:
    _, _, _, corrected = one_round(LoraFair(rank=3))
    _, _, _, plain = one_round(FedLora(rank=3))

    assert all(np.array_equal(corrected[name], plain[name]) for name in plain if not name.endswith("lora_B"))


def problem(seed: int) -> tuple[Matrix, Matrix, Matrix]:
    """A mean B (6, 2), a mean A (2, 5) and a mean product (6, 5) near the product of the two."""
    rng = np.random.default_rng(seed)
    mean_b, mean_a = rng.standard_normal((6, 2)), rng.standard_normal((2, 5))
    return mean_b, mean_a, mean_b @ mean_a + 0.4 * rng.standard_normal((6, 5))


@pytest.mark.parametrize("seed", range(5))
def test_without_regularization_the_direction_is_that_of_least_squares(seed: int) -> None:
    mean_b, mean_a, exact = problem(seed)
    # min |Delta W - B A|^2 over B: B = Delta W A^T (A A^T)^-1, which no multiple of B A can beat in direction
    best = exact @ mean_a.T @ np.linalg.inv(mean_a @ mean_a.T) @ mean_a

    found = corrected_b(mean_b, mean_a @ mean_a.T, exact @ mean_a.T, regularization=0.0, n_steps=500)

    assert cosine(found @ mean_a, exact) == pytest.approx(cosine(best, exact), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_more_regularization_moves_b_less(seed: int) -> None:
    mean_b, mean_a, exact = problem(seed)
    arguments = mean_b, mean_a @ mean_a.T, exact @ mean_a.T

    moved = [float(np.linalg.norm(corrected_b(*arguments, weight, 200) - mean_b)) for weight in (0.001, 0.01, 10.0)]

    assert moved[0] > moved[1] > moved[2] == 0


def test_the_objective_is_that_of_the_paper_up_to_what_no_correction_changes() -> None:
    mean_b, mean_a, exact = problem(0)
    gram, inner = mean_a @ mean_a.T, exact @ mean_a.T
    change = 0.1 * np.ones_like(mean_b)
    # What lies outside the rows of A is beyond any correction; within them the cosine is the paper's.
    within = exact @ np.linalg.pinv(mean_a) @ mean_a
    expected = -cosine((mean_b + change) @ mean_a, within) + 0.5 * np.linalg.norm(change) / np.linalg.norm(mean_b)

    assert objective(change, mean_b, gram, inner, 0.5) == pytest.approx(expected)


def test_adapters_that_are_still_zero_stay_as_they_are() -> None:
    zero, gram = np.zeros((4, 2)), np.eye(2)

    assert not corrected_b(zero, gram, np.zeros((4, 2)), 0.01, 10).any()


def test_parameters_without_meaning_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"regularization .* greater than or equal to 0, got -1"):
        build_policy("lorafair", {"regularization": -1.0})
    with pytest.raises(ConfigError, match=r"n_server_steps .* greater than or equal to 1, got 0"):
        build_policy("lorafair", {"n_server_steps": 0})
