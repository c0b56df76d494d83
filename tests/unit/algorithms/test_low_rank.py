"""Norms of low-rank products agree with those of the products, formed."""

import numpy as np
import pytest

from emulator.algorithms.ranks import adapters_norm, product_norm

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
