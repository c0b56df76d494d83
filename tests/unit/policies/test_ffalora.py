"""FFA-LoRA: with A frozen, the mean of B is the mean of the products, and half as much travels."""

import numpy as np
import pytest

from emulator.testing import tiny_model
from policies.fedlora import FedLora
from policies.ffalora import FfaLora
from tests.unit.policies.exact_means import SITES, mean_of_products, one_round, product


@pytest.mark.parametrize(("layer", "target"), SITES)
def test_the_mean_of_the_products_is_exact(layer: int, target: str) -> None:
    _, state, updates, merged = one_round(FfaLora(rank=3))

    assert np.allclose(product(merged, layer, target), mean_of_products(updates, layer, target, state), atol=1e-6)


def test_with_a_trained_as_well_it_is_not() -> None:
    _, state, updates, merged = one_round(FedLora(rank=3))

    error = product(merged, 0, "query") - mean_of_products(updates, 0, "query", state)
    assert np.abs(error).max() > 0.01


def test_a_never_changes_and_is_never_sent() -> None:
    _, state, updates, merged = one_round(FfaLora(rank=3))

    assert not any(name.endswith("lora_A") for update in updates for name in update.payload)
    assert all(np.array_equal(merged[name], state[name]) for name in state if name.endswith("lora_A"))


def test_adapters_travel_at_half_of_loras_bytes() -> None:
    model = tiny_model(3)  # all its matrices are square
    half, whole = FfaLora(rank=4), FedLora(rank=4)
    head = 4 * model.n_head_parameters

    for direction in ("download_bytes", "upload_bytes"):
        _, _, [some, *_], _ = one_round(half)
        _, _, [other, *_], _ = one_round(whole)
        sent = getattr(half.form(model), direction)(some.assignment, model) - head
        assert 2 * sent == getattr(whole.form(model), direction)(other.assignment, model) - head


def test_the_learning_rate_is_a_multiple_of_the_runs() -> None:
    _, _, [scaled, *_], _ = one_round(FfaLora(rank=3, learning_rate_scale=4.0))
    _, _, [same, *_], _ = one_round(FfaLora(rank=3))

    assert scaled.assignment.learning_rate == 4 * same.assignment.learning_rate
