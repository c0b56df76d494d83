"""FlexLoRA: the mean of the products, in the best approximation that each rank allows."""

import numpy as np
import pytest

from emulator.errors import ConfigError
from emulator.forms.lora import LoraAssignment, LoraForm, adapter_name
from emulator.policy import Arrays
from emulator.policy.catalog import build_policy
from emulator.records import Update
from emulator.testing import small_testbed
from policies.flexlora import FlexLora
from tests.unit.policies.exact_means import SITES, mean_of_products, one_round, product

COMMON = {"n_steps": 1, "batch_size": 1, "learning_rate": 0.1}


@pytest.mark.parametrize(("layer", "target"), SITES)
def test_with_ranks_as_large_as_the_matrix_the_mean_of_the_products_is_exact(layer: int, target: str) -> None:
    form, state, updates, merged = one_round(FlexLora(ranks=(16,)))  # the matrices are 16 x 16

    exact = form.scaling * mean_of_products(updates, layer, target, state)
    assert np.allclose(form.scaling * product(merged, layer, target), exact, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_what_is_lost_is_the_root_of_the_sum_of_the_squares_of_the_smaller_singular_values(rank: int) -> None:
    _, state, updates, merged = one_round(FlexLora(ranks=(3,)))  # five devices: the mean has rank 15
    exact = mean_of_products(updates, 1, "query", state)
    lora_a = merged[adapter_name(1, "query", "lora_A")][:rank].astype(np.float64)
    lora_b = merged[adapter_name(1, "query", "lora_B")][:, :rank].astype(np.float64)

    rest = np.linalg.svd(exact, compute_uv=False)[rank:]
    assert np.linalg.norm(exact - lora_b @ lora_a) == pytest.approx(float(np.sqrt((rest**2).sum())), rel=1e-5)


def test_singular_values_are_on_b_and_a_has_orthonormal_rows() -> None:
    form, state, updates, merged = one_round(FlexLora(ranks=(4,)))
    lora_a, lora_b = (merged[adapter_name(0, "value", name)].astype(np.float64) for name in ("lora_A", "lora_B"))

    sizes = np.linalg.svd(form.scaling * mean_of_products(updates, 0, "value", state), compute_uv=False)[:4]
    assert np.allclose(lora_a @ lora_a.T, np.eye(4), atol=1e-6)
    assert np.allclose(np.linalg.norm(lora_b, axis=0), sizes / form.scaling, rtol=1e-5)


def test_one_device_alone_keeps_its_product() -> None:
    policy = FlexLora(ranks=(2, 5))
    form, state, updates, _ = one_round(policy)
    [own] = [update for update in updates if update.device_id == 3]

    merged = policy.aggregate(form, state, [own])
    before = own.payload["layers.2.query.lora_B"] @ own.payload["layers.2.query.lora_A"]
    assert np.allclose(product(merged, 2, "query"), before, atol=1e-5)


def test_devices_of_different_ranks_by_hand() -> None:
    """Two devices of equal weight: (4, 0; 0, 0) of rank 1 and (0, 0; 0, 2) of rank 2 have the mean diag(2, 1)."""
    form = LoraForm(ranks=(2,), targets=("query",), scaling=2.0)
    state: Arrays = {
        "layers.0.query.lora_A": np.zeros((2, 2), np.float32),
        "layers.0.query.lora_B": np.zeros((2, 2), np.float32),
    }
    first = {
        "layers.0.query.lora_A": np.array([[1, 0]], np.float32),
        "layers.0.query.lora_B": np.array([[4], [0]], np.float32),
    }
    second = {
        "layers.0.query.lora_A": np.array([[0, 0], [0, -1]], np.float32),
        "layers.0.query.lora_B": np.array([[0, 0], [0, -2]], np.float32),
    }
    updates = [
        Update(
            device_id=device,
            assignment=LoraAssignment(device_id=device, ranks=(rank,), depth=1, **COMMON),  # type: ignore[arg-type]
            payload=payload,
            n_examples=7,
            metrics={},
        )
        for device, (rank, payload) in enumerate([(1, first), (2, second)])
    ]
    merged = FlexLora(ranks=(1, 2)).aggregate(form, state, updates)

    assert np.allclose(merged["layers.0.query.lora_A"], np.eye(2), atol=1e-7)
    assert np.allclose(merged["layers.0.query.lora_B"], np.diag([2.0, 1.0]), atol=1e-7)


def test_ranks_follow_the_speeds_seen_and_nothing_full_size_travels() -> None:
    small = small_testbed(FlexLora(ranks=(1, 2, 4)), n_devices=6, n_layers=2)
    first, second = small.play(2)
    held = [
        {device: one.ranks[0] for device, one in played.plan.assignments.items() if isinstance(one, LoraAssignment)}
        for played in (first, second)
    ]

    assert held[0] == dict.fromkeys(range(6), 1)
    assert held[1] == {0: 1, 3: 1, 1: 2, 4: 2, 2: 4, 5: 4}  # the speeds are 1, 2 and 4 in turn
    model, form = small.testbed.model, small.testbed.form
    for device, rank in held[1].items():
        factors = 4 * (2 * 2 * rank * (16 + 16) + model.n_head_parameters)
        assert form.download_bytes(second.plan.assignments[device], model) == factors
        assert form.upload_bytes(second.plan.assignments[device], model) == factors


def test_ranks_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ConfigError, match="ascending"):
        build_policy("flexlora", {"ranks": [4, 2]})
