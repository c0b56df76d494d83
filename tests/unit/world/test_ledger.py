"""Activities go into the books in parts that add up to the whole; ledgers of a new round begin empty."""

from dataclasses import replace

import pytest

from device_profiles.catalog import load_profile
from device_profiles.records import PowerLaw
from emulator.records import ActivityKind, Status, Work
from emulator.world.clock import Event
from emulator.world.ledger import Ledger, Ongoing, Part, opened_ledgers
from emulator.world.price.step_time import BusyShares


def computation() -> Ongoing:
    """8 s from 10 s on, 6 of them forward, of 100 FLOP."""
    return Ongoing(
        kind=ActivityKind.COMPUTE,
        start_s=10.0,
        duration_s=8.0,
        event=Event(),
        forward_s=6.0,
        backward_s=2.0,
        work_flop=100.0,
    )


def test_the_parts_of_an_activity_add_up_to_the_whole() -> None:
    ongoing = computation()

    parts = [ongoing.book(now_s, now_s == 18.0, arrived_bytes=0) for now_s in (12.0, 12.0, 15.0, 18.0)]

    assert parts == [Part(2.0, 0.25, 0), Part(0.0, 0.0, 0), Part(3.0, 0.375, 0), Part(3.0, 0.375, 0)]


def test_a_ledger_has_of_a_computation_the_share_that_is_done() -> None:
    ongoing, ledger = computation(), Ledger(busy_until_s=10.0)

    ledger.add(ongoing, ongoing.book(12.0, False, arrived_bytes=0))

    assert (ledger.forward_s, ledger.backward_s, ledger.work_flop) == (1.5, 0.5, 25.0)


def test_a_ledger_has_all_seconds_of_a_real_device_that_is_late_whenever_it_is_looked_at() -> None:
    ongoing, ledger = computation(), Ledger(busy_until_s=10.0)
    ongoing.is_live = True

    for now_s in (14.0, 20.0, 20.0, 21.0, 23.0):  # it should have ended at 18
        ledger.add(ongoing, ongoing.book(now_s, False, arrived_bytes=0))
        assert ledger.forward_s + ledger.backward_s == pytest.approx(now_s - 10.0)
    ongoing.ends_live(24.0)
    ledger.add(ongoing, ongoing.book(24.0, True, arrived_bytes=0))

    assert (ledger.forward_s, ledger.backward_s) == pytest.approx((10.5, 3.5))
    assert ledger.work_flop == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("kind", "expected"), [(ActivityKind.DOWNLOAD, (2.0, 30, 0.0, 0)), (ActivityKind.UPLOAD, (0.0, 0, 2.0, 30))]
)
def test_a_ledger_has_of_a_transfer_its_seconds_and_bytes(kind: ActivityKind, expected: tuple[float, ...]) -> None:
    ledger = Ledger(busy_until_s=0.0)

    ledger.add(Ongoing(kind=kind, start_s=0.0, duration_s=4.0, event=Event()), Part(2.0, 0.5, 30))

    assert (ledger.download_s, ledger.download_bytes, ledger.upload_s, ledger.upload_bytes) == expected


def test_who_is_busy_brings_along_what_it_was_asked_for_and_nothing_that_it_did() -> None:
    work = Work(n_steps=3, batch_size=2, seq_len=8, forward_layers=1, backward_layers=1)
    last = Ledger(busy_until_s=4.0, status=Status.OK, work=work, peak_memory_bytes=7, download_bytes=9, energy_j=5.0)

    idle, busy = opened_ledgers(6.0, 2, {1: last})

    assert idle == Ledger(busy_until_s=6.0)
    assert busy == Ledger(busy_until_s=6.0, status=Status.OK, work=work, peak_memory_bytes=7)
    assert (busy.report(1).n_steps, busy.report(1).batch_size, busy.report(1).download_bytes) == (3, 2, 0)


def test_a_computation_draws_by_how_busy_it_keeps_the_board_and_a_transfer_does_not() -> None:
    law = PowerLaw(awake_w=3.0, arithmetic_w={"fp32": 4.0, "amp": 2.0}, memory_w=1.0)
    mode = replace(load_profile("jetson_tx2").mode("MAXN"), compute_w=9.0, transfer_w=5.0, power_law=law)
    busy = BusyShares("fp32", arithmetic=0.5, memory=0.25)
    working = Ongoing(kind=ActivityKind.COMPUTE, start_s=0.0, duration_s=4.0, event=Event(), busy=busy)
    assert working.drawn_w(mode) == 3.0 + 2.0 + 0.25
    assert working.drawn_w(replace(mode, power_law=None)) == 9.0
    assert Ongoing(kind=ActivityKind.UPLOAD, start_s=0.0, duration_s=4.0, event=Event()).drawn_w(mode) == 5.0
