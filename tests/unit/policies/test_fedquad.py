"""FedQuad: pairs of depth and quantized layers that fit and that nothing beats, and the greedy choice among them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.errors import ConfigError, PlanError
from emulator.forms.lora import LoraAssignment
from emulator.policy import Policy
from emulator.policy.catalog import build_policy
from emulator.records import ClusterView, RoundPlan, TrainingDefaults
from emulator.shapes.catalog import model_spec
from emulator.testing import small_testbed, tiny_model
from emulator.world.price.memory import peak_memory
from policies.fedquad import FedQuad, Setting, efficient_settings, feasible_settings
from policies.uniform_depth import UniformDepth

ROBERTA = model_spec("roberta-base", n_labels=2, seq_len=256, head="output")
TRAINING = TrainingDefaults(n_steps=4, batch_size=16, learning_rate=1e-3)
GIB = 2**30


def view_of(policy: Policy, memory_bytes: Sequence[float], precision: str = "fp32") -> ClusterView:
    """Devices with so much memory before RoBERTa-base, 16 sentences of 256 tokens."""
    view = small_testbed(policy, n_devices=len(memory_bytes)).view()
    return replace(
        view,
        model=ROBERTA,
        training=replace(TRAINING, precision=precision),
        declared={
            device: {"memory_bytes": each, "allocator": "pytorch_cuda"} for device, each in enumerate(memory_bytes)
        },
    )


def asked(plan: RoundPlan) -> dict[int, Setting]:
    return {
        device: Setting(found.depth, found.quantized_layers)
        for device, found in plan.assignments.items()
        if isinstance(found, LoraAssignment)
    }


def peak_bytes(policy: Policy, assignment: object, precision: str = "fp32") -> int:
    assert isinstance(assignment, LoraAssignment)
    return peak_memory(ROBERTA, policy.form(ROBERTA).work(assignment, ROBERTA), precision).total_bytes


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.6 * GIB, 12 * GIB), min_size=1, max_size=6),
    st.floats(0.5, 1.0),
    st.sampled_from([(True, True), (True, False), (False, True), (False, False)]),
    st.sampled_from([4, 8]),
    st.sampled_from(["fp32", "amp"]),
)
def test_no_plan_is_above_what_a_device_can_hold(
    memory_bytes: list[float], fraction: float, switches: tuple[bool, bool], bits: int, precision: str
) -> None:
    quantize, adapt_depth = switches
    policy = FedQuad(quantize=quantize, adapt_depth=adapt_depth, bits=bits, memory_fraction=fraction)  # type: ignore[arg-type]
    try:
        plan = policy.plan(view_of(policy, memory_bytes, precision))
    except PlanError:
        plan = RoundPlan(assignments={})
    for device, each in enumerate(memory_bytes):
        if device in plan.assignments:
            assert peak_bytes(policy, plan.assignments[device], precision) <= fraction * each
        else:
            least = peak_bytes(policy, lora(1, 1 if quantize else 0, bits), precision)
            assert least > fraction * each


def lora(depth: int, n_quantized: int, bits: int) -> LoraAssignment:
    return LoraAssignment(
        device_id=0, n_steps=4, batch_size=16, learning_rate=1e-3, ranks=(8,) * 12, depth=depth,
        quantized_layers=n_quantized, activation_bits=bits,
    )  # fmt: skip


def test_as_few_layers_are_quantized_as_the_memory_allows() -> None:
    policy = FedQuad(waiting_fraction=1.0)
    memory_bytes = [gib * GIB for gib in (1.0, 1.5, 2.0, 2.25, 2.5, 3.0, 10.0)]
    found = asked(policy.plan(view_of(policy, memory_bytes)))
    for device, setting in found.items():
        assert (
            setting.depth == 12
            or peak_bytes(policy, lora(setting.depth + 1, setting.depth + 1, 4)) > (memory_bytes[device])
        )
        if setting.quantized_layers:
            one_less = lora(setting.depth, setting.quantized_layers - 1, 4)
            assert peak_bytes(policy, one_less) > memory_bytes[device]
    assert found[6] == Setting(12, 0)
    # All layers, as they are, need 2.6 GiB.
    assert [found[device].quantized_layers > 0 for device in range(7)] == [True] * 5 + [False] * 2


def test_a_device_that_cannot_hold_all_layers_tunes_more_of_them_with_quantization() -> None:
    memory_bytes = [gib * GIB for gib in (1.0, 1.5, 2.0, 2.25, 2.5)]
    depths = {}
    for quantize in (True, False):
        policy = FedQuad(quantize=quantize)
        depths[quantize] = [setting.depth for setting in asked(policy.plan(view_of(policy, memory_bytes))).values()]
    assert all(without < 12 for without in depths[False])
    assert all(more > less for more, less in zip(depths[True], depths[False], strict=True))


def test_feasible_are_the_fewest_quantized_layers_of_every_depth_that_fits() -> None:
    # A layer takes 4, quantized 1; there is room for 9.
    needs = {Setting(d, a): 4 * (d - a) + a for d in range(1, 5) for a in range(d + 1)}
    asked_for = []

    def fits(setting: Setting) -> bool:
        asked_for.append(setting)
        return needs[setting] <= 9

    # 8 fit two layers as they are; three need 9 with one quantized, four 7 with three and 10 with two.
    assert feasible_settings(needs, fits) == [Setting(1, 0), Setting(2, 0), Setting(3, 1), Setting(4, 3)]
    # Once a depth fits, no more of it is priced.
    assert asked_for == [Setting(d, a) for d, most in ((1, 0), (2, 0), (3, 1), (4, 3)) for a in range(most + 1)]
    assert feasible_settings(needs, lambda _: False) == []


@given(st.dictionaries(st.integers(1, 12), st.floats(0.1, 10.0), min_size=1))
def test_nothing_beats_an_efficient_setting_and_something_beats_every_other(times_s: Mapping[int, float]) -> None:
    feasible = [Setting(depth, 0) for depth in sorted(times_s)]
    efficient = efficient_settings(feasible, lambda setting: times_s[setting.depth])

    def is_beaten(setting: Setting) -> bool:
        return any(
            other.depth >= setting.depth and times_s[other.depth] <= times_s[setting.depth] and other != setting
            for other in feasible
        )

    assert [setting for setting in feasible if not is_beaten(setting)] == efficient


def test_the_slow_give_up_layers_once_they_are_known_and_nobody_does_without_depth_adaptation() -> None:
    first, second = small_testbed(FedQuad(waiting_fraction=0.05), n_devices=3, n_layers=12).play(2)
    assert [setting.depth for setting in asked(first.plan).values()] == [12, 12, 12]
    depths = [setting.depth for setting in asked(second.plan).values()]
    assert depths[0] < depths[1] <= depths[2] == 12  # device 0 is the slowest, device 2 the fastest

    rounds = small_testbed(FedQuad(waiting_fraction=0.05, adapt_depth=False), n_devices=3, n_layers=12).play(2)
    assert [setting.depth for setting in asked(rounds[1].plan).values()] == [12, 12, 12]


def test_a_device_that_holds_no_layer_is_left_out_and_if_none_does_the_message_says_so() -> None:
    policy = FedQuad()
    assert sorted(policy.plan(view_of(policy, [0.3 * GIB, 8 * GIB])).assignments) == [1]
    with pytest.raises(PlanError, match=r"no available device can hold 1 tuned layers, which need \d+ bytes; lower"):
        policy.plan(view_of(policy, [0.3 * GIB]))


def test_uniform_depth_is_the_deepest_that_the_smallest_device_can_hold() -> None:
    policy = UniformDepth()
    view = view_of(policy, [8 * GIB, 2 * GIB, 4 * GIB])
    plan = policy.plan(replace(view, available=(0, 2)))  # the smallest is away, and counts all the same
    found = asked(plan)
    assert set(found) == {0, 2}
    [depth] = {setting.depth for setting in found.values()}
    assert peak_bytes(policy, plan.assignments[0]) <= 2 * GIB < peak_bytes(policy, lora(depth + 1, 0, 8))
    with pytest.raises(PlanError, match="one tuned layer needs"):
        policy.plan(view_of(policy, [8 * GIB, 0.3 * GIB]))


@pytest.mark.parametrize(
    ("given_values", "message"),
    [
        ({"min_depth": 0}, r"min_depth .* greater than or equal to 1, got 0"),
        ({"memory_fraction": 1.5}, r"memory_fraction .* less than or equal to 1, got 1\.5"),
        ({"quantization_cost": -1.0}, r"quantization_cost .* greater than or equal to 0, got -1\.0"),
    ],
)
def test_impossible_parameters_are_refused(given_values: dict[str, float], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        build_policy("fedquad", given_values).form(tiny_model(4))
