"""A step's price is what the cost and memory models say, with the band that the profile's uncertainties leave open."""

from dataclasses import replace

import pytest

from device_profiles.catalog import load_profile
from device_profiles.provenance import Provenance
from device_profiles.records import DeviceProfile, KnownRange, PowerLaw, PowerMode
from emulator.forms.lora import LoraForm, lora_assignment, low_rank_adapters
from emulator.records import NO_ADAPTERS, TrainingDefaults, Work, WorkKind
from emulator.shapes.catalog import model_spec
from emulator.world.price.memory import peak_memory
from emulator.world.price.price_bands import price_step
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_time import price

ROBERTA = model_spec("roberta-base", n_labels=2, seq_len=128, head="output")
WORK = Work(
    n_steps=1,
    batch_size=8,
    seq_len=128,
    forward_layers=12,
    backward_layers=12,
    adapters=low_rank_adapters(ROBERTA, ("query", "value"), (8,) * 12),
)
MODE = PowerMode(
    name="plain",
    mode_id=0,
    effective_flop_per_s={"fp32": 1e12, "amp": 1e12},
    memory_bytes_per_s=1e15,
    step_overhead_s=0.010,
    idle_w=1,
    compute_w=10,
    transfer_w=2,
)


def board(uncertainties: dict[str, str]) -> DeviceProfile:
    origins = {
        key: Provenance(kind="assumed", source="a test", uncertainty=text) for key, text in uncertainties.items()
    }
    return DeviceProfile(
        name="board",
        title="A board",
        memory_bytes=4 * 2**30,
        usable_memory_bytes=2 * 2**30,
        power_modes=(MODE,),
        default_mode="plain",
        provenance=origins,
        sha256="",
    )


def test_a_step_takes_what_the_testbed_charges_for_it() -> None:
    tx2 = load_profile("jetson_tx2")
    mode = tx2.mode("MAXN")
    found = price_step(tx2, mode, ROBERTA, WORK, "fp32")
    charged = price(ROBERTA, WORK, mode, "fp32")
    assert found.step_s.value == pytest.approx(charged.forward_s + charged.backward_s)
    assert found.step_s.value == found.time.forward_s + found.time.backward_s + found.time.overhead_s
    assert found.energy_j.value == pytest.approx(12 * found.step_s.value)
    assert found.memory == peak_memory(ROBERTA, WORK, "fp32")


def test_the_band_is_wide_enough_for_all_figures_to_err_to_one_side() -> None:
    profile = board({"fp32_tflop_per_s": "×/÷ 2", "step_overhead_ms": "±5 ms", "compute_w": "±10 %"})
    found = price_step(profile, MODE, ROBERTA, WORK, "fp32")
    compute_s = (step_of(ROBERTA, WORK).forward_flop + step_of(ROBERTA, WORK).backward_flop) / 1e12
    slowest_s, fastest_s = 2 * compute_s + 0.015, compute_s / 2 + 0.005
    assert (found.step_s.low, found.step_s.high) == pytest.approx((fastest_s, slowest_s), rel=1e-6)
    assert (found.energy_j.low, found.energy_j.high) == pytest.approx((9 * fastest_s, 11 * slowest_s), rel=1e-6)


def test_a_board_without_uncertainties_has_no_band() -> None:
    found = price_step(board({}), MODE, ROBERTA, WORK, "fp32")
    assert found.step_s.low == found.step_s.value == found.step_s.high
    assert found.figures == ()


@pytest.mark.parametrize("depth", [0, 4, 12])
@pytest.mark.parametrize("hold_below", [True, False])
def test_bytes_are_those_of_the_form_that_is_trained(depth: int, hold_below: bool) -> None:
    form = LoraForm(ranks=(8,) * 12)
    training = TrainingDefaults(n_steps=1, batch_size=8, learning_rate=1e-3)
    assignment = lora_assignment(0, training, form.ranks, depth, hold_below=hold_below)
    found = price_step(board({}), MODE, ROBERTA, form.work(assignment, ROBERTA), "fp32")
    assert found.download_bytes == form.download_bytes(assignment, ROBERTA)
    assert found.upload_bytes == form.upload_bytes(assignment, ROBERTA)


def test_full_fine_tuning_sends_every_parameter_and_inference_none() -> None:
    whole = replace(WORK, adapters=NO_ADAPTERS, kind=WorkKind.WEIGHTS)
    found = price_step(board({}), MODE, ROBERTA, whole, "fp32")
    assert found.upload_bytes == found.download_bytes == 4 * ROBERTA.n_parameters
    inference = replace(WORK, backward_layers=0, kind=WorkKind.INFERENCE)
    found = price_step(board({}), MODE, ROBERTA, inference, "fp32")
    assert (found.upload_bytes, found.download_bytes, found.time.backward_s) == (0, 0, 0)


def test_a_pass_is_limited_by_what_takes_longest() -> None:
    assert price_step(board({}), MODE, ROBERTA, WORK, "fp32").forward_limit == "arithmetic"
    slow_memory = replace(MODE, memory_bytes_per_s=1e8)
    assert price_step(board({}), slow_memory, ROBERTA, WORK, "fp32").backward_limit == "memory"
    slow_cpu = replace(MODE, dispatch_s=1.0)
    assert price_step(board({}), slow_cpu, ROBERTA, WORK, "fp32").forward_limit == "dispatch"


def test_what_does_not_fit_and_what_is_not_known_is_said() -> None:
    known = KnownRange(
        min_step_tokens=1,
        max_step_tokens=1024,
        min_model_parameters=0,
        max_model_parameters=10**9,
        precisions=("fp32",),
        kinds=("adapters",),
    )
    profile = replace(board({}), known_range=known)
    found = price_step(profile, MODE, ROBERTA, WORK, "fp32")
    assert found.fits
    assert found.outside is None
    large = price_step(profile, MODE, ROBERTA, replace(WORK, batch_size=64), "fp32")
    assert not large.fits
    assert large.outside == "batch 64 x length 128 = 8192 tokens a step, known from 1 to 1024"


def test_a_board_with_a_power_law_draws_by_how_busy_the_step_keeps_it() -> None:
    law = PowerLaw(awake_w=4, arithmetic_w={"fp32": 6, "amp": 3}, memory_w=2)
    mode = replace(MODE, memory_bytes_per_s=1e10, power_law=law)
    demand = step_of(ROBERTA, WORK).demand()
    compute_s = (demand.forward_flop + demand.backward_flop) / 1e12
    moved_s = (demand.forward_bytes + demand.backward_bytes + demand.optimizer_bytes) / 1e10
    step_s = compute_s + 0.010 + demand.optimizer_bytes / 1e10  # both passes wait for arithmetic
    for precision, arithmetic_w in (("fp32", 6), ("amp", 3)):
        if precision == "amp":
            amp = step_of(ROBERTA, WORK, "amp").demand()
            moved_s = (amp.forward_bytes + amp.backward_bytes + amp.optimizer_bytes) / 1e10
        found = price_step(board({}), mode, ROBERTA, WORK, precision)
        expected_w = 4 + arithmetic_w * compute_s / step_s + 2 * moved_s / step_s
        assert found.compute_w.value == pytest.approx(expected_w, rel=1e-9)
        assert found.energy_j.value == pytest.approx(expected_w * found.step_s.value)


def test_the_band_of_energy_has_the_uncertainty_of_each_part_of_the_power_law() -> None:
    law = PowerLaw(awake_w=4, arithmetic_w={"fp32": 6, "amp": 3}, memory_w=2)
    profile = board({"awake_w": "±10 %", "fp32_arithmetic_w": "×/÷ 1.5", "memory_w": "×/÷ 2", "compute_w": "×/÷ 9"})
    mode = replace(MODE, power_law=law)
    busy = price_step(profile, mode, ROBERTA, WORK, "fp32").time.busy("fp32")
    found = price_step(profile, mode, ROBERTA, WORK, "fp32")
    low_w = 3.6 + 4 * busy.arithmetic + 1 * busy.memory
    high_w = 4.4 + 9 * busy.arithmetic + 4 * busy.memory
    assert (found.compute_w.low, found.compute_w.high) == pytest.approx((low_w, high_w))
    assert found.energy_j.high == pytest.approx(high_w * found.step_s.high)
