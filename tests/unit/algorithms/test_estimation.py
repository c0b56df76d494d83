"""The capacity estimator that several policies plan by."""

from emulator.algorithms.estimation import Capacities, Capacity, held_below, measured_capacity
from emulator.records import DeviceReport, RoundReport, Status


def test_a_measurement_is_taken_per_layer_and_per_byte() -> None:
    seen = DeviceReport(
        device_id=0,
        status=Status.OK,
        download_s=2.0,
        forward_s=5.0,
        backward_s=12.0,
        upload_s=3.0,
        download_bytes=100,
        upload_bytes=60,
    )

    assert measured_capacity(seen, n_backward_layers=4) == Capacity(
        forward_s=5.0, backward_s_per_layer=3.0, download_s_per_byte=0.02, upload_s_per_byte=0.05
    )


def test_the_estimator_is_an_exponential_moving_average() -> None:
    old = Capacity(forward_s=10.0, backward_s_per_layer=1.0, download_s_per_byte=4.0, upload_s_per_byte=0.0)
    new = Capacity(forward_s=20.0, backward_s_per_layer=3.0, download_s_per_byte=4.0, upload_s_per_byte=8.0)

    # Three quarters of the old and one quarter of the new.
    assert old.blend(new, 0.75) == Capacity(
        forward_s=12.5, backward_s_per_layer=1.5, download_s_per_byte=4.0, upload_s_per_byte=2.0
    )


def test_what_several_inner_rounds_took_is_taken_for_one_of_them() -> None:
    seen = DeviceReport(
        device_id=0,
        status=Status.OK,
        download_s=6.0,
        forward_s=15.0,
        backward_s=36.0,
        upload_s=9.0,
        download_bytes=300,
        upload_bytes=180,
    )

    assert measured_capacity(seen, n_backward_layers=4, inner_rounds=3) == Capacity(
        forward_s=5.0, backward_s_per_layer=3.0, download_s_per_byte=0.02, upload_s_per_byte=0.05
    )


def test_an_inner_round_is_a_download_the_local_steps_and_an_upload() -> None:
    known = Capacity(forward_s=5.0, backward_s_per_layer=3.0, download_s_per_byte=0.02, upload_s_per_byte=0.05)

    # 5 + 2 * 3 + 100 * 0.02 + 60 * 0.05
    assert known.completion_s(2, download_bytes=100, upload_bytes=60) == 16.0


def report_of(*statuses: Status, forward_s: float = 0.0) -> RoundReport:
    devices = {
        number: DeviceReport(device_id=number, status=status, forward_s=forward_s)
        for number, status in enumerate(statuses)
    }
    return RoundReport(round_index=0, start_s=0.0, end_s=1.0, devices=devices, evaluation=None)


def as_seen(device: int, seen: DeviceReport) -> Capacity | None:
    if seen.forward_s < 0:
        return None
    return Capacity(forward_s=seen.forward_s, backward_s_per_layer=0.0, download_s_per_byte=0.0, upload_s_per_byte=0.0)


def test_capacities_are_known_of_devices_that_delivered_and_blend_over_rounds() -> None:
    capacities = Capacities(smoothing=0.75)
    capacities.observe(report_of(Status.OK, Status.DROPPED, forward_s=4.0), as_seen)
    assert {device: known.forward_s for device, known in capacities.known.items()} == {0: 4.0}

    capacities.observe(report_of(Status.OK, forward_s=8.0), as_seen)
    capacities.observe(report_of(Status.OK, forward_s=-1.0), as_seen)
    assert capacities.known[0].forward_s == 0.75 * 4.0 + 0.25 * 8.0


def test_who_ran_out_of_memory_is_held_one_below_what_was_asked_but_not_below_the_least() -> None:
    report = report_of(Status.OK, Status.OUT_OF_MEMORY, Status.OUT_OF_MEMORY, Status.DROPPED)

    assert held_below(report, {0: 5, 1: 5, 2: 2, 3: 5}, least=2) == {1: 4, 2: 2}
