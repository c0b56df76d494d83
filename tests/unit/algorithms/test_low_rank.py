"""Norms of low-rank products agree with those of the products, formed."""

import numpy as np
import pytest

from emulator.algorithms.ranks import adapters_norm, best_factors, product_norm

RNG = np.random.default_rng(0)


def factors(rank: int, n_in: int = 7, n_out: int = 5) -> dict[str, np.ndarray]:
    return {
        "lora_A": RNG.standard_normal((rank, n_in)).astype(np.float32),
        "lora_B": RNG.standard_normal((n_out, rank)).astype(np.float32),
    }


@pytest.mark.parametrize("rank", [1, 3, 9])
def test_the_norm_is_that_of_the_product(rank: int) -> None:
    given = factors(rank)
    formed = given["lora_B"].astype(np.float64) @ given["lora_A"].astype(np.float64)
    assert product_norm(given["lora_A"], given["lora_B"]) == pytest.approx(np.linalg.norm(formed), rel=1e-12)


def test_a_product_of_zeros_has_norm_zero() -> None:
    given = factors(2)
    assert product_norm(given["lora_A"], np.zeros_like(given["lora_B"])) == 0.0


def test_the_norm_of_many_products_is_that_of_all_their_numbers_and_leaves_the_head_out() -> None:
    places = {"layers.0.query.": factors(2), "layers.1.value.": factors(3, n_in=4)}
    arrays = {f"{place}{name}": array for place, pair in places.items() for name, array in pair.items()}
    products = [pair["lora_B"].astype(np.float64) @ pair["lora_A"] for pair in places.values()]
    expected = np.linalg.norm(np.concatenate([product.ravel() for product in products]))
    head = {"head.classifier.weight": np.full((3, 3), 100, np.float32)}
    assert adapters_norm({**arrays, **head}) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("n_out", "n_in"), [(5, 7), (7, 5)])
@pytest.mark.parametrize("scaling", [1.0, 0.5])
def test_the_best_factors_of_full_rank_are_the_product(n_out: int, n_in: int, scaling: float) -> None:
    product = RNG.standard_normal((n_out, n_in))
    lora_b, lora_a = best_factors(product, 5, scaling)

    assert lora_b.shape == (n_out, 5)
    assert lora_a.shape == (5, n_in)
    assert np.allclose(scaling * lora_b.astype(np.float64) @ lora_a, product, atol=1e-6)


def test_the_best_factors_of_a_diagonal_matrix_are_its_largest_entries_and_unit_rows() -> None:
    lora_b, lora_a = best_factors(np.diag([1.0, -6.0, 3.0]), 2, 1.5)

    assert np.allclose(lora_a, [[0, 1, 0], [0, 0, 1]])
    assert np.allclose(lora_b, [[0, 0], [-4, 0], [0, 2]])


def test_a_product_that_is_not_finite_has_no_finite_factors() -> None:
    lora_b, lora_a = best_factors(np.array([[1.0, np.inf, 0.0], [0.0, 1.0, 0.0]]), 1, 1.0)

    assert (lora_b.shape, lora_a.shape) == ((2, 1), (1, 3))
    assert not np.isfinite(lora_b).any()
    assert not np.isfinite(lora_a).any()
