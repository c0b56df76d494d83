"""FedEx-LoRA: averaged factors and residual together are the exact mean of the products."""

import numpy as np
import pytest

from emulator.forms.residual import ResidualAssignment
from emulator.testing import small_testbed
from policies.fedexlora import FedExLora
from policies.fedlora import FedLora
from tests.unit.policies.exact_means import N_DEVICES, SITES, mean_of_products, one_round, product


@pytest.mark.parametrize(("layer", "target"), SITES)
def test_adapters_and_residual_give_the_mean_of_the_products(layer: int, target: str) -> None:
    form, state, updates, merged = one_round(FedExLora(rank=3))
    name = f"layers.{layer}.{target}.residual"

    grown = merged[name].astype(np.float64) - state[name]
    exact = form.scaling * mean_of_products(updates, layer, target, state)
    assert np.allclose(grown + form.scaling * product(merged, layer, target), exact, atol=1e-5)
    assert np.abs(grown).max() > 0.01  # otherwise there would have been nothing to correct


def test_factors_are_averaged_as_in_fedlora() -> None:
    _, _, updates, merged = one_round(FedExLora(rank=3))
    total = sum(update.n_examples for update in updates)
    expected = sum(update.n_examples / total * update.payload["layers.0.query.lora_A"] for update in updates)

    assert np.allclose(merged["layers.0.query.lora_A"], expected, atol=1e-6)


def test_what_a_device_lacks_of_the_residual_is_charged() -> None:
    rank = 3
    small = small_testbed(FedExLora(rank=rank), n_devices=N_DEVICES, n_layers=2)
    first, second = small.play_round(), small.play_round()

    for played, residual_rank in ((first, 0), (second, N_DEVICES * rank)):
        for assignment in played.plan.assignments.values():
            assert isinstance(assignment, ResidualAssignment)
            assert assignment.residual_rank == residual_rank
    model, form = small.testbed.model, small.testbed.form
    plain = FedLora(rank=rank).form(model)
    of = first.plan.assignments[0], second.plan.assignments[0]
    assert form.download_bytes(of[0], model) == plain.download_bytes(of[0], model)
    # Four square matrices of width 16: 15 ranks would be 15 x 32 numbers each, the whole matrix has 256.
    assert form.download_bytes(of[1], model) - plain.download_bytes(of[1], model) == 4 * 4 * min(15 * 32, 256)
    assert form.upload_bytes(of[1], model) == plain.upload_bytes(of[1], model)
