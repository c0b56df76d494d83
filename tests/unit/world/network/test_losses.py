"""Devices that are lost in the middle of something: what they did until then counts, to the byte and the joule."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from emulator.errors import UserError
from emulator.forms.lora import LoraForm, lora_assignment
from emulator.records import Status, TrainingDefaults
from emulator.seeds import Seeds
from emulator.testing import exact_testbed, tiny_model
from emulator.testing.exact_testbed import COMPUTE_W, IDLE_W, TRANSFER_W
from emulator.world.availability import DropOuts, Trace
from emulator.world.clock import Event, Process
from emulator.world.devices import DeviceLost
from emulator.world.network.shared_network import SharedCapacity

if TYPE_CHECKING:
    from emulator.world.testbed import Testbed

MODEL = tiny_model()
FORM = LoraForm(ranks=(2,) * MODEL.n_layers)
ASSIGNMENT = lora_assignment(0, TrainingDefaults(n_steps=3, batch_size=8, learning_rate=0.1), FORM.ranks, 2)
WORK = FORM.work(ASSIGNMENT, MODEL)
SHARED = SharedCapacity(np.array([0, 0]), (100.0,), (np.inf, np.inf))
"""Two devices at an access point of 100 bytes/s."""


class Failing(DropOuts):
    """Device 0 fails after this share of its first computation."""

    def __init__(self, share: float) -> None:
        super().__init__(2, 0.0, Seeds(0))
        self._share = share

    def shares(self, round_index: int) -> Mapping[int, float]:
        return {0: self._share}


def opened(**settings: Any) -> "Testbed":
    """Two devices in their first round: 2 s per step, 100 bytes/s down, 50 bytes/s up, a latency of 0.5 s."""
    testbed = exact_testbed(
        FORM,
        MODEL,
        step_s=[2.0, 2.0],
        download_bytes_per_s=[100.0, 100.0],
        upload_bytes_per_s=[50.0, 50.0],
        latency_s=0.5,
        **settings,
    )
    testbed.open_round(0)
    return testbed


def run(testbed: "Testbed", device_id: int = 0) -> Process[float]:
    """2.5 s of download, 6 s of computation, 1.5 s of upload; gives the time of the end or loss."""
    try:
        yield testbed.download(device_id, 200)
        yield testbed.compute(device_id, WORK)
        yield testbed.upload(device_id, 50)
    except DeviceLost:
        pass
    return testbed.clock.now_s


def both(testbed: "Testbed") -> Process[list[float]]:
    return (yield testbed.all_of([testbed.process(run(testbed, device_id)) for device_id in (0, 1)]))


def waiting_for(event: Event) -> Process[None]:
    yield event


def reachable_until(end_s: float) -> dict[str, Any]:
    return {"availability": Trace(2, {0: [(0, end_s)], 1: [(0, 1e6)]})}


def test_a_device_that_becomes_unreachable_in_its_download_has_received_a_part() -> None:
    testbed = opened(**reachable_until(1.5))
    under_way = testbed.round

    assert testbed.clock.run(both(testbed)) == [1.5, 10.0]

    seen = testbed.close_round().devices[0]
    # After the latency of 0.5 s, 1 s at 100 bytes/s.
    assert (seen.status, seen.download_bytes, seen.download_s) == (Status.DROPPED, 100, 1.5)
    assert (seen.compute_s, seen.waiting_s, seen.n_steps) == (0.0, 10 - 1.5, 0)
    assert under_way.ledgers[0].energy_j == 1.5 * TRANSFER_W + 8.5 * IDLE_W


def test_who_is_lost_in_a_shared_download_leaves_its_capacity_to_the_others() -> None:
    testbed = opened(shared=SHARED, **reachable_until(1.5))

    # From 0.5 s to 1.5 s each receives 50 of its 200 bytes; the other 150 take 1.5 s. Then 6 s, and 1.5 s of upload.
    assert testbed.clock.run(both(testbed)) == [1.5, 10.5]

    devices = testbed.close_round().devices
    lost, other = devices[0], devices[1]
    assert (lost.status, lost.download_bytes, lost.download_s) == (Status.DROPPED, 50, 1.5)
    assert (other.status, other.download_bytes, other.download_s, other.upload_s) == (Status.OK, 200, 3.0, 1.5)


def test_a_shared_download_that_goes_on_beyond_the_rounds_end_is_divided_between_the_rounds() -> None:
    testbed = opened(shared=SHARED)
    downloads = [testbed.download(device_id, 200) for device_id in (0, 1)]
    testbed.clock.run(waiting_for(testbed.clock.timeout(1.5)))
    first = testbed.close_round().devices[0]
    testbed.open_round(1)
    testbed.clock.run(waiting_for(testbed.all_of(downloads)))
    second = testbed.close_round().devices[0]

    assert [(seen.download_bytes, seen.download_s) for seen in (first, second)] == [(50, 1.5), (150, 3.0)]


def test_a_round_that_ends_between_two_transfers_that_end_together_has_all_of_both() -> None:
    testbed = opened(shared=SHARED)

    def close_with_the_first() -> Process[None]:
        downloads = [testbed.download(device_id, 200) for device_id in (0, 1)]
        yield downloads[0]
        assert not downloads[1].processed
        seen = testbed.close_round().devices[1]
        assert (seen.download_bytes, seen.download_s) == (200, 4.5)
        testbed.open_round(1)
        yield downloads[1]

    testbed.clock.run(close_with_the_first())

    assert not testbed.round.activities.kind


def test_nothing_has_arrived_before_the_latency_is_over() -> None:
    testbed = opened(**reachable_until(0.25))
    testbed.clock.run(both(testbed))

    assert testbed.close_round().devices[0].download_bytes == 0


def test_a_device_that_becomes_unreachable_in_its_computation_has_done_a_part_of_the_work() -> None:
    whole = opened()
    whole.clock.run(both(whole))
    testbed = opened(**reachable_until(4.0))
    under_way = testbed.round
    testbed.clock.run(both(testbed))

    seen = testbed.close_round().devices[0]
    # 1.5 of 6 s.
    assert (seen.compute_s, seen.upload_bytes, seen.waiting_s) == (1.5, 0, 6.0)
    assert under_way.ledgers[0].work_flop == whole.round.ledgers[0].work_flop / 4
    assert under_way.ledgers[0].energy_j == 2.5 * TRANSFER_W + 1.5 * COMPUTE_W + 6.0 * IDLE_W


@pytest.mark.parametrize(("end_s", "status", "sent"), [(10.0, Status.OK, 50), (9.5, Status.DROPPED, 25)])
def test_what_ends_as_the_device_goes_has_ended(end_s: float, status: Status, sent: int) -> None:
    testbed = opened(**reachable_until(end_s))
    testbed.clock.run(both(testbed))

    seen = testbed.close_round().devices[0]
    assert (seen.status, seen.upload_bytes) == (status, sent)


def test_a_device_that_goes_while_it_has_nothing_to_do_is_lost_when_it_is_next_asked() -> None:
    testbed = opened(**reachable_until(4.0))
    under_way = testbed.round

    def idle_in_between() -> Process[None]:
        yield testbed.download(0, 200)
        yield testbed.clock.timeout(5.0)
        assert under_way.ledgers[0].status is Status.OK
        with pytest.raises(DeviceLost):
            yield testbed.compute(0, WORK)

    testbed.clock.run(idle_in_between())

    assert testbed.close_round().devices[0].status is Status.DROPPED


def test_a_lost_device_stays_lost_until_the_next_round() -> None:
    testbed = opened(availability=Trace(2, {0: [(0, 1), (2, 1e6)], 1: [(0, 1e6)]}))
    testbed.clock.run(both(testbed))

    def again() -> Process[None]:
        for ask in (lambda: testbed.download(0, 1), lambda: testbed.compute(0, WORK), lambda: testbed.upload(0, 1)):
            with pytest.raises(DeviceLost):
                yield ask()

    testbed.clock.run(again())
    assert testbed.close_round().devices[0].download_bytes == 50
    assert testbed.open_round(1).available == (0, 1)
    assert testbed.clock.run(run(testbed)) == 20.0


def test_a_device_drops_out_after_its_share_of_its_first_computation() -> None:
    testbed = opened(drop_outs=Failing(0.25))

    assert testbed.clock.run(both(testbed)) == [2.5 + 6 / 4, 10.0]
    seen = testbed.close_round().devices
    assert (seen[0].status, seen[0].compute_s, seen[1].status) == (Status.DROPPED, 1.5, Status.OK)


def test_a_drop_out_hits_nothing_but_that_computation() -> None:
    testbed = opened(drop_outs=Failing(0.9))

    def lost_before_it_drops_out() -> Process[None]:
        computing = testbed.compute(0, WORK)
        yield testbed.clock.timeout(1.0)
        testbed.lose(0, Status.LATE)
        with pytest.raises(DeviceLost):
            yield computing
        yield testbed.clock.timeout(10.0)

    testbed.clock.run(lost_before_it_drops_out())

    assert testbed.close_round().devices[0].status is Status.LATE


def test_a_protocol_can_lose_a_device_at_any_time() -> None:
    testbed = opened()

    def cut() -> Process[float]:
        running = testbed.process(run(testbed))
        yield testbed.clock.timeout(8.5)
        testbed.lose(0, Status.LATE)
        return (yield running)

    assert testbed.clock.run(cut()) == 8.5
    seen = testbed.close_round().devices[0]
    assert (seen.status, seen.compute_s, seen.upload_bytes) == (Status.LATE, 6.0, 0)


@pytest.mark.parametrize("status", [Status.OK, Status.IDLE])
def test_a_device_is_not_lost_as_well_or_idle(status: Status) -> None:
    with pytest.raises(ValueError, match="a device is lost as one of dropped, late, out_of_memory, unavailable"):
        opened().lose(0, status)


def test_a_device_does_one_thing_at_a_time() -> None:
    testbed = opened()
    testbed.download(0, 100)

    with pytest.raises(RuntimeError, match="device 0 has not finished its download"):
        testbed.compute(0, WORK)


def test_unreachable_devices_are_not_in_the_view_and_idle_at_idle_power() -> None:
    testbed = opened(availability=Trace(2, {0: [(0, 1e6)], 1: [(5, 1e6)]}))
    under_way = testbed.round
    testbed.clock.run(run(testbed))

    seen = testbed.close_round().devices[1]
    assert (seen.status, seen.waiting_s, under_way.ledgers[1].energy_j) == (Status.UNAVAILABLE, 10.0, 10 * IDLE_W)
    assert testbed.open_round(1).available == (0, 1)


def test_a_round_waits_for_the_first_device_that_comes_back() -> None:
    testbed = opened(availability=Trace(2, {0: [(0, 1), (30, 40)], 1: [(20, 25)]}))
    testbed.clock.run(run(testbed))
    testbed.close_round()

    second = testbed.open_round(1)
    view = testbed.view({}, frozenset())

    assert (second.start_s, view.now_s, view.available) == (1.0, 20.0, (1,))


def test_a_run_ends_with_a_message_when_nobody_ever_comes_back() -> None:
    testbed = opened(availability=Trace(2, {0: [(0, 4)]}))
    testbed.clock.run(run(testbed))
    testbed.close_round()

    with pytest.raises(UserError, match="round 1: from 4 s of emulated time on no device can be reached any more"):
        testbed.open_round(1)


def test_what_goes_on_beyond_a_round_is_booked_where_it_happens() -> None:
    testbed = opened()
    running = testbed.process(run(testbed))
    sums = dict.fromkeys(("download_bytes", "upload_bytes", "download_s", "compute_s", "upload_s"), 0.0)
    energy_j = flop = 0.0

    def until(end_s: float) -> Process[None]:
        yield testbed.deadline(end_s - testbed.clock.now_s)

    for number, end_s in enumerate((1.0, 2.0, 4.0, 9.5, 12.0)):
        testbed.clock.run(until(end_s))
        under_way = testbed.round
        report = testbed.close_round()
        seen = report.devices[0]
        assert seen.status is Status.OK
        total_s = seen.download_s + seen.compute_s + seen.upload_s + seen.waiting_s
        assert total_s == pytest.approx(report.end_s - report.start_s, abs=1e-12)
        sums = {name: total + getattr(seen, name) for name, total in sums.items()}
        energy_j += under_way.ledgers[0].energy_j
        flop += under_way.ledgers[0].work_flop
        testbed.open_round(number + 1)

    assert running.processed
    assert sums == pytest.approx(
        {"download_bytes": 200, "upload_bytes": 50, "download_s": 2.5, "compute_s": 6.0, "upload_s": 1.5}, rel=1e-12
    )
    assert energy_j == pytest.approx(4 * TRANSFER_W + 6 * COMPUTE_W + 2 * IDLE_W, rel=1e-12)
    whole = opened()
    whole.clock.run(run(whole))
    assert flop == pytest.approx(whole.round.ledgers[0].work_flop, rel=1e-12)
