"""Closed rounds whose every figure follows from a few numbers: two devices that wait for 2 s and 4 s of each 10 s."""

from emulator.observers.base import RoundClosed
from emulator.records import DeviceReport, Evaluation, RoundReport, Status
from emulator.results.rows import round_columns

ROUND_S = 10.0
WAITING_S = (2.0, 4.0)
ENERGY_J = (30.0, 50.0)
LOSSES = (0.5, None)


def closed_round(index: int, groups: tuple[int, int] = (0, 0), accuracy: float | None = 0.75) -> RoundClosed:
    """Round ``index`` of 10 s, in which each device downloads 100 byte and uploads 25."""
    devices = {
        device_id: DeviceReport(
            device_id=device_id,
            status=Status.OK,
            waiting_s=WAITING_S[device_id],
            download_bytes=100,
            upload_bytes=25,
            metrics={} if (loss := LOSSES[device_id]) is None else {"train_loss": loss},
        )
        for device_id in (0, 1)
    }
    evaluation = None if accuracy is None else Evaluation(accuracy=accuracy, loss=1.25, n_examples=8)
    start_s = index * ROUND_S
    report = RoundReport(
        round_index=index, start_s=start_s, end_s=start_s + ROUND_S, devices=devices, evaluation=evaluation
    )
    rows = {
        "group": list(groups),
        "waiting_s": list(WAITING_S),
        "energy_j": list(ENERGY_J),
        "train_loss": list(LOSSES),
    }
    return RoundClosed(report=report, rows={"rounds": round_columns(report, sum(ENERGY_J)), "devices": rows})
