"""A computation's length and end, in fractions, on hot boards, after a change of mode, and where it fails."""

from dataclasses import replace

import numpy as np
import pytest

from device_profiles.records import Thermal
from device_profiles.swap_file import SwapSpec
from emulator.forms.lora import LoraForm, lora_assignment
from emulator.records import TrainingDefaults
from emulator.seeds import Seeds
from emulator.testing import exact_testbed, tiny_model
from emulator.world.availability import DropOuts
from emulator.world.clock import Clock
from emulator.world.computation import Computations, Fractions
from emulator.world.devices import Boards
from emulator.world.foreground import Foreground, scheduled_load
from emulator.world.heat import Heat
from emulator.world.open_round import OpenRound
from emulator.world.power_modes import PowerModes

MODEL = tiny_model()
FORM = LoraForm(ranks=(2,) * MODEL.n_layers)
TRAINING = TrainingDefaults(n_steps=3, batch_size=8, learning_rate=0.1)
WORK = FORM.work(lora_assignment(0, TRAINING, FORM.ranks, 4), MODEL)
WHOLE = Fractions(1.0, 1.0)


class FailsIn(DropOuts):
    """The one device fails when it has computed ``share`` pieces of work."""

    def __init__(self, share: float) -> None:
        super().__init__(1, 0.0, Seeds(0))
        self._share = share

    def shares(self, round_index: int) -> dict[int, float]:
        return {0: self._share}


def one_device(drop_share: float = 9.0, memory_bytes: int = 2**60) -> OpenRound:
    """The open round of a device whose steps take 2 s, all of them forward."""
    return exact_testbed(
        FORM,
        MODEL,
        step_s=[2.0],
        download_bytes_per_s=[1.0],
        upload_bytes_per_s=[1.0],
        usable_memory_bytes=[memory_bytes],
        drop_outs=FailsIn(drop_share),
    ).open_round(0)


def computations(
    opened: OpenRound, thermal: Thermal | None = None, foreground: Foreground | None = None
) -> Computations:
    modes = PowerModes(np.ones(1, np.int64), 0, Seeds(0))
    boards = Boards(devices=opened.devices, power_modes=modes, thermal=thermal, foreground=foreground)
    return Computations(Clock(), boards, Heat(thermal, 1) if thermal else None, MODEL, TRAINING)


def test_fractions_of_a_piece_of_work_add_up_to_it() -> None:
    opened = one_device()
    begun = computations(opened)

    parts = [begun.begin(opened, 0, WORK, Fractions(fraction, fraction))[0] for fraction in (0.25, 0.75)]

    whole, _ = computations(opened).begin(one_device(), 0, WORK, WHOLE)
    assert [part.duration_s for part in parts] == [1.5, 4.5]
    assert sum(part.work_flop for part in parts) == pytest.approx(whole.work_flop, rel=1e-12)
    assert opened.ledgers[0].computed_share == 1.0


@pytest.mark.parametrize(("drop_share", "fails_s"), [(0.5, [3.0, None]), (1.25, [None, 1.5]), (2.0, [None, None])])
def test_a_device_fails_in_the_computation_that_takes_it_past_its_share(
    drop_share: float, fails_s: list[float | None]
) -> None:
    opened = one_device(drop_share)
    begun = computations(opened)

    assert [begun.begin(opened, 0, WORK, WHOLE)[1] for _ in range(2)] == fails_s


def test_a_computation_takes_longer_while_something_runs_in_the_foreground() -> None:
    # 6 s of work: 2 s until the load begins, 1 s in the 4 s that it lasts, 3 s afterwards. It fails halfway.
    load = scheduled_load(1, 0.75, from_s=2.0, until_s=6.0, period_s=100.0)
    opened = one_device(drop_share=0.5)

    ongoing, fails_s = computations(opened, foreground=load).begin(opened, 0, WORK, WHOLE)

    assert ongoing.duration_s == ongoing.forward_s == pytest.approx(9.0, rel=1e-12)
    assert fails_s == pytest.approx(4.5, rel=1e-12)


def test_a_hot_board_takes_longer_for_all_parts_of_its_work() -> None:
    # 10 W bring 100 K in the end: the limit of 50 K comes ln 2 time constants after a cold start, at 3 s of 6.
    thermal = Thermal(rise_k_per_w=10, time_constant_s=3 / np.log(2), limit_k=50, throttled_speed_fraction=0.5)
    opened = one_device()

    ongoing, _ = computations(opened, thermal).begin(opened, 0, WORK, WHOLE)

    assert (ongoing.duration_s, ongoing.forward_s, ongoing.backward_s) == (pytest.approx(9.0), pytest.approx(9.0), 0.0)


def test_what_does_not_fit_goes_to_swap_and_comes_back_in_every_step() -> None:
    needed = computations(one_device()).pricing.peak_memory_bytes(WORK, "pytorch_cuda")
    swap = SwapSpec(name="slow", size_bytes=1000, read_bytes_per_s=500.0, write_bytes_per_s=250.0)

    for memory_bytes, expected in ((needed, True), (needed - 1000, True), (needed - 1001, False)):
        opened = one_device(memory_bytes=memory_bytes)
        device = opened.devices[0]
        opened = replace(opened, devices=[replace(device, profile=replace(device.profile, swap=swap))])
        board = computations(opened)
        assert board.fits(opened, 0, WORK) is expected
        if expected:
            missing_bytes = needed - memory_bytes
            ongoing, _ = board.begin(opened, 0, WORK, WHOLE)
            # Three steps of 2 s, each of which writes and reads what is missing.
            assert ongoing.duration_s == pytest.approx(3 * (2.0 + missing_bytes / 250 + missing_bytes / 500))


def test_work_fits_up_to_the_last_byte_and_the_ledger_keeps_what_it_needs() -> None:
    needed = computations(one_device()).pricing.peak_memory_bytes(WORK, "pytorch_cuda")

    for memory_bytes, expected in ((needed, True), (needed - 1, False)):
        opened = one_device(memory_bytes=memory_bytes)
        assert computations(opened).fits(opened, 0, WORK) is expected
        assert opened.ledgers[0].peak_memory_bytes == needed
