"""XGBLoRA: boosters of rank 1 on some layers, one a round, each from nothing."""

import numpy as np
import pytest

from emulator.forms.lora import adapter_name
from emulator.forms.residual import ResidualAssignment, ResidualLoraForm, residual_name
from emulator.records import Assignment, Status
from emulator.testing import small_testbed
from policies.xgblora import XgbLora
from tests.unit.policies.exact_means import mean_of_products, one_round


def held(assignment: Assignment) -> ResidualAssignment:
    assert isinstance(assignment, ResidualAssignment)
    return assignment


def test_a_booster_is_on_its_share_of_the_layers_which_all_devices_have_alike() -> None:
    chosen = set()
    for played in small_testbed(XgbLora(layer_share=0.5), n_devices=4, n_layers=4).play(6):
        ranks = {held(one).ranks for one in played.plan.assignments.values()}
        assert len(ranks) == 1
        [own] = ranks
        assert sorted(own) == [0, 0, 1, 1]
        assert {one.backward_layers for one in played.plan.assignments.values()} == {4 - own.index(1)}
        chosen.add(own)

    assert len(chosen) > 1


def test_it_starts_from_nothing_and_from_a_common_a() -> None:
    small = small_testbed(XgbLora(layer_share=1.0), n_devices=3, n_layers=2)
    form = small.testbed.form
    for played in small.play(2):
        starts = [form.project(played.before, one) for one in played.plan.assignments.values()]
        assert len({start["layers.0.query.lora_A"].tobytes() for start in starts}) == 1
        assert not any(start["layers.0.query.lora_B"].any() for start in starts)


def test_what_is_merged_is_the_product_of_the_means_of_rank_one_and_other_layers_stay() -> None:
    form, state, updates, merged = one_round(XgbLora(layer_share=0.4))  # one of three layers
    total = sum(update.n_examples for update in updates)
    ranks = held(updates[0].assignment).ranks
    for layer, target in ((layer, target) for layer in range(3) for target in ("query", "value")):
        grown = merged[residual_name(layer, target)].astype(np.float64) - state[residual_name(layer, target)]
        if not ranks[layer]:
            assert not grown.any()
            continue
        mean_a, mean_b = (
            sum(update.n_examples / total * update.payload[adapter_name(layer, target, name)] for update in updates)
            for name in ("lora_A", "lora_B")
        )
        assert np.allclose(grown, form.scaling * mean_b @ mean_a, atol=1e-5)
        sizes = np.linalg.svd(grown, compute_uv=False)
        assert sizes[1] < 1e-5 * sizes[0] + 1e-6

    assert sum(ranks) == 1


def test_after_m_boosters_a_matrix_has_changed_by_at_most_rank_m() -> None:
    small = small_testbed(XgbLora(layer_share=0.5), n_devices=3, n_layers=4)
    first = small.state
    counts = np.zeros(4, int)
    for played in small.play(4):
        counts += held(played.plan.assignments[0]).ranks
    for layer in range(4):
        grown = small.state[residual_name(layer, "query")].astype(np.float64) - first[residual_name(layer, "query")]
        assert np.linalg.matrix_rank(grown, tol=1e-4) <= counts[layer]

    assert counts.sum() == 8


def test_products_can_be_averaged_instead_which_is_exact() -> None:
    form, state, updates, merged = one_round(XgbLora(layer_share=1.0, averages_products=True))

    exact = form.scaling * mean_of_products(updates, 1, "value", state)
    name = residual_name(1, "value")
    assert np.allclose(merged[name].astype(np.float64) - state[name], exact, atol=1e-5)


@pytest.mark.parametrize(("averages_products", "n_ranks"), [(False, 1), (True, 3)])
def test_a_device_is_charged_for_the_boosters_that_it_lacks_layer_by_layer(
    averages_products: bool, n_ranks: int
) -> None:
    def trouble(round_index: int) -> dict[int, Status]:
        return {0: Status.DROPPED} if round_index == 1 else {}

    policy = XgbLora(layer_share=0.5, averages_products=averages_products)
    small = small_testbed(policy, n_devices=3, n_layers=2, trouble=trouble)
    form, model = small.testbed.form, small.testbed.model
    assert isinstance(form, ResidualLoraForm)
    [one, two, three] = [played.plan.assignments[0] for played in small.play(3)]
    second = n_ranks - (1 if averages_products else 0)  # device 0 delivers nothing in the second round

    assert held(one).residual_rank == (0, 0)
    assert held(two).residual_rank == tuple(n_ranks * rank for rank in held(one).ranks)
    expected = tuple(n_ranks * a + second * b for a, b in zip(held(one).ranks, held(two).ranks, strict=True))
    assert held(three).residual_rank == expected
    # Two matrices a layer; a rank has 16 + 16 numbers, a whole matrix 256.
    lacking = 2 * sum(min(32 * rank, 256) for rank in expected)
    assert form.download_bytes(three, model) == 4 * (lacking + model.n_head_parameters)
