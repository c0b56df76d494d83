"""FLoRA: the stack of all adapters is their exact mean, whatever their ranks, and becomes part of the model."""

import numpy as np
import pytest

from emulator.errors import ConfigError
from emulator.forms.residual import ResidualAssignment, ResidualLoraForm
from emulator.policy.catalog import build_policy
from emulator.records import Status
from emulator.seeds import Seeds
from emulator.testing import small_testbed, tiny_model
from policies.flora import Flora
from tests.unit.policies.exact_means import SITES, mean_of_products, one_round

RANKS = (4, 1, 2)


@pytest.mark.parametrize(("layer", "target"), SITES)
def test_the_residual_grows_by_the_mean_of_the_products(layer: int, target: str) -> None:
    form, state, updates, merged = one_round(Flora(ranks=RANKS))
    name = f"layers.{layer}.{target}.residual"

    exact = form.scaling * mean_of_products(updates, layer, target, state)
    assert np.allclose(merged[name].astype(np.float64) - state[name], exact, atol=1e-5)


def test_the_default_mean_over_embedded_updates_says_the_same() -> None:
    policy = Flora(ranks=RANKS)
    form, state, updates, merged = one_round(policy)

    plain = super(Flora, policy).aggregate(form, state, updates)
    assert plain.keys() == merged.keys()
    assert all(np.allclose(plain[name], merged[name], atol=1e-5) for name in plain)


def test_devices_start_from_adapters_of_their_own_whose_product_is_zero() -> None:
    policy = Flora(ranks=(3,))
    form, state, _, _ = one_round(policy)
    assert isinstance(form, ResidualLoraForm)
    small = small_testbed(Flora(ranks=(3,)), n_devices=2, n_layers=3)
    starts = []
    for _ in range(2):
        plan = small.play_round().plan
        starts += [form.project(state, assignment) for assignment in plan.assignments.values()]

    assert not any(start["layers.0.query.lora_B"].any() for start in starts)
    drawn = [start["layers.0.query.lora_A"].tobytes() for start in starts]
    assert len(set(drawn)) == 4  # two devices in two rounds
    assert not any("lora_A" in name for name in form.initial(tiny_model(3), Seeds(0)))


def test_devices_take_the_ranks_in_turn() -> None:
    plan = small_testbed(Flora(ranks=RANKS), n_devices=5, n_layers=2).play_round().plan

    held = [each.ranks for each in plan.assignments.values() if isinstance(each, ResidualAssignment)]
    assert held == [(4, 4), (1, 1), (2, 2), (4, 4), (1, 1)]


def test_who_missed_a_round_is_charged_for_its_stack_too() -> None:
    def trouble(round_index: int) -> dict[int, Status]:
        return {0: Status.DROPPED} if round_index == 1 else {}

    small = small_testbed(Flora(ranks=RANKS), n_devices=3, n_layers=2, trouble=trouble)
    lacking = []
    for _ in range(3):
        plan = small.play_round().plan
        lacking.append(
            [each.residual_rank for each in plan.assignments.values() if isinstance(each, ResidualAssignment)]
        )

    # All three stacks have rank 4 + 1 + 2; in round 1 device 0, of rank 4, delivers nothing.
    assert lacking == [[0, 0, 0], [7, 7, 7], [7 + 3, 3, 3]]


@pytest.mark.parametrize("ranks", [(), (4, 0)])
def test_ranks_below_one_are_refused(ranks: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"policy\.ranks"):
        build_policy("flora", {"ranks": ranks})
