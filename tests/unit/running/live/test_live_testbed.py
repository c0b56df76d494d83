"""A live testbed: never faster than its law, the same results as on the virtual clock, and devices that are lost."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from device_profiles.link_kinds.roaming import RoamingLink
from device_profiles.link_kinds.walks import Point, RecordedWalk
from emulator.policy.checked import CheckedPolicy
from emulator.policy.rounds import play_round
from emulator.protocols.buffered import BufferedAsync
from emulator.protocols.chained import ChainedRounds
from emulator.protocols.grouped import GroupedRounds
from emulator.records import Group, RoundReport, Status, Update
from emulator.running.live.board import OnStep
from emulator.running.live.clock import LiveClock
from emulator.running.live.devices import TrainingOrder
from emulator.running.live.testbed import MOST_PIECES, PIECE_BYTES, LiveTestbed, n_pieces
from emulator.seeds import Seeds
from emulator.testing import exact_testbed, tiny_model
from emulator.world.network.shared_network import SharedCapacity
from emulator.world.testbed import Testbed
from tests.unit.protocols.test_grouped import FailingWhenItComputesAgain, Fixed, FlatForm, train
from tests.unit.running.live.threads import InThreads

SPEED = 40.0
N_DEVICES = 3


def train_stepwise(order: TrainingOrder, on_step: OnStep) -> Update:
    """As ``train``, one step after the other."""
    for step in range(order.job.assignment.n_steps):
        on_step(step)
    (update,) = train([order.job])
    return Update(
        device_id=update.device_id,
        round_index=order.job.round_index,
        inner_round=order.job.inner_round,
        assignment=update.assignment,
        payload=update.payload,
        n_examples=update.n_examples,
        metrics=update.metrics,
    )


def made(**options: Any) -> Testbed:
    """Devices that take 1 + 2 + 1, 2 + 3 + 2 and 2 + 4 + 2 s."""
    return exact_testbed(
        FlatForm(),
        tiny_model(),
        step_s=[1.0] * N_DEVICES,
        download_bytes_per_s=[100.0, 50.0, 50.0],
        upload_bytes_per_s=[50.0, 25.0, 25.0],
        **options,
    )


def live(speed: float = SPEED, **options: Any) -> tuple[LiveTestbed, InThreads]:
    devices = InThreads(N_DEVICES, speed, train_stepwise)
    make = partial(LiveTestbed, live=devices, task="none:none")
    testbed = made(clock=LiveClock(speed, threading.Event()), make=make, **options)
    assert isinstance(testbed, LiveTestbed)
    return testbed, devices


def played(testbed: Testbed, policy: Fixed, n_rounds: int = 2) -> tuple[list[RoundReport], float]:
    """The reports of some rounds, and the server's number after them."""
    state, reports = FlatForm().initial(tiny_model(), Seeds(0)), []
    checked = CheckedPolicy(policy, FlatForm())
    for round_index in range(n_rounds):
        state = play_round(testbed, checked, round_index, state, train).after
        reports.append(testbed.close_round())
    return reports, float(state["w"][0])


def chained() -> Fixed:
    policy = Fixed(groups=(Group(members=(2, 0)), Group(members=(1,))))
    policy.protocol = ChainedRounds()
    return policy


def grouped() -> Fixed:
    policy = Fixed(groups=(Group(members=(2, 0), inner_rounds=2), Group(members=(1,))))
    policy.protocol = GroupedRounds()
    return policy


@pytest.mark.parametrize("policy", [Fixed, grouped, chained], ids=["flat", "inner rounds", "chained"])
def test_a_live_run_learns_what_its_twin_on_the_virtual_clock_does_and_is_never_faster(
    policy: Callable[[], Fixed],
) -> None:
    virtual, number = played(made(), policy())
    reports, live_number = played(live()[0], policy())

    assert live_number == number
    for report, twin in zip(reports, virtual, strict=True):
        assert report.end_s - report.start_s >= (twin.end_s - twin.start_s) * (1 - 1e-9)
        for device, twin_device in zip(report.devices.values(), twin.devices.values(), strict=True):
            assert (device.status, device.n_steps) == (twin_device.status, twin_device.n_steps)
            assert (device.download_bytes, device.upload_bytes) == (
                twin_device.download_bytes,
                twin_device.upload_bytes,
            )
            assert device.metrics == twin_device.metrics
            for part in ("download_s", "forward_s", "upload_s"):
                assert getattr(device, part) >= getattr(twin_device, part) * (1 - 1e-9)


def test_live_devices_that_roam_keep_to_the_law_of_their_twins() -> None:
    # 100 bytes down and up, through hand-overs at 2 s and every 3 s after; all share what the point has where they are.
    link = RoamingLink(
        name="roaming",
        access_points=(
            Point(name="near", min_bytes_per_s=80.0, max_bytes_per_s=80.0, shared_bytes_per_s=100.0),
            Point(name="far", min_bytes_per_s=40.0, max_bytes_per_s=40.0, shared_bytes_per_s=60.0),
        ),
        gap_s=(0.25, 0.25),
        walks=(RecordedWalk(start_s=(0.0, 2.0), points=(0, 1), period_s=5.0),),
        latency_s=0.0,
        provenance={},
        sha256="",
    )
    shared = SharedCapacity(np.zeros(N_DEVICES, np.int64), link.points_bytes_per_s(), (np.inf, np.inf))
    links = [link] * N_DEVICES
    (twin, *_), number = played(made(links=links, shared=shared), Fixed())
    (report, *_), live_number = played(live(links=links, shared=shared)[0], Fixed())

    assert live_number == number
    # A third of 100 each: 66 2/3 bytes in 2 s, a gap, and the rest at a third of 60 each.
    assert [device.download_s for device in twin.devices.values()] == pytest.approx([2.25 + 5 / 3] * N_DEVICES)
    for device, twin_device in zip(report.devices.values(), twin.devices.values(), strict=True):
        assert device.download_s >= twin_device.download_s * (1 - 1e-9)
        assert (device.download_bytes, device.upload_bytes) == (twin_device.download_bytes, twin_device.upload_bytes)


def test_the_parts_of_a_device_add_up_to_its_round() -> None:
    (report, *_), _ = played(live()[0], Fixed(), n_rounds=1)

    for device in report.devices.values():
        busy_s = device.download_s + device.forward_s + device.backward_s + device.upload_s
        assert busy_s + device.waiting_s == pytest.approx(report.end_s - report.start_s)


def test_what_an_asynchronous_round_cuts_adds_up_too() -> None:
    policy = Fixed()
    policy.protocol = BufferedAsync(1)
    reports, number = played(live()[0], policy, n_rounds=4)

    assert np.isfinite(number)
    for report in reports:
        for device in report.devices.values():
            busy_s = device.download_s + device.forward_s + device.backward_s + device.upload_s
            assert busy_s + device.waiting_s == pytest.approx(report.end_s - report.start_s)


def test_the_bytes_of_a_payload_really_travel() -> None:
    testbed, devices = live()
    played(testbed, Fixed(), n_rounds=1)

    # The job itself is longer than the 100 bytes that the form says, and comes whole.
    assert all(received >= 100 for received in devices.received_bytes)


def test_a_device_without_the_memory_is_refused_as_it_is_emulated() -> None:
    # What FlatForm's work needs is more than a byte.
    testbed, _ = live(usable_memory_bytes=[2**60, 1, 2**60])
    (report, *_), _ = played(testbed, Fixed(), n_rounds=1)

    assert [device.status for device in report.devices.values()] == [Status.OK, Status.OUT_OF_MEMORY, Status.OK]


def test_a_device_that_drops_out_is_stopped_and_takes_part_in_the_next_round() -> None:
    testbed, _ = live(drop_outs=FailingWhenItComputesAgain(0))
    reports, _ = played(testbed, grouped())

    assert [report.devices[0].status for report in reports] == [Status.DROPPED] * 2
    assert [report.devices[1].status for report in reports] == [Status.OK] * 2


def test_a_device_whose_process_dies_drops_out_of_the_round_and_is_started_anew() -> None:
    testbed, devices = live()
    devices.dying = 1
    reports, _ = played(testbed, Fixed())

    assert [report.devices[1].status for report in reports] == [Status.DROPPED, Status.OK]
    assert devices.restarted == [1]


def test_late_devices_are_cut_at_the_deadline() -> None:
    # Device 0 needs 4 s and the others at least 7; at this speed it may be late by 0.7 s of the wall.
    (report, *_), _ = played(live(speed=4.0)[0], Fixed(deadline_s=6.9), n_rounds=1)

    assert [device.status for device in report.devices.values()] == [Status.OK, Status.LATE, Status.LATE]
    assert report.end_s == pytest.approx(6.9)


def test_a_payload_travels_in_as_many_pieces_as_its_size_wants() -> None:
    assert [n_pieces(n) for n in (0, 1, PIECE_BYTES, PIECE_BYTES + 1, 2**40)] == [1, 1, 1, 2, MOST_PIECES]
