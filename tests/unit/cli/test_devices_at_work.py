"""The table of devices at work: a row for each, with what it does and how far it is behind."""

import io
import math

from rich.console import Console

from emulator.cli.live import DevicesAtWork
from emulator.config import load_config
from emulator.observers.base import Progress
from emulator.records import ActivityKind, Status
from emulator.running.live.watching import DeviceActivity


def shown(*activities: DeviceActivity, now_s: float) -> list[list[str]]:
    """The rows of the table at ``now_s``, as words."""
    console = Console(file=io.StringIO(), width=120)
    config = load_config(None, [("backend.kind", "live"), ("pace", "realtime(20)")])
    display = DevicesAtWork(console, config, wall_s=lambda: now_s)
    for activity in activities:
        display.device_changed(activity)
    display.progressed(Progress(rounds_done=1, n_rounds=3, now_s=60.0))
    console.print(display.table())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "20 emulated seconds per second" in text
    assert "round 1/3" in text
    return [line.split() for line in text.splitlines() if line[:1].isspace() or line[:1].isdigit()]


def activity(
    device_id: int, kind: ActivityKind | None, due_s: float = 2.0, status: Status = Status.OK
) -> DeviceActivity:
    return DeviceActivity(
        device_id=device_id,
        board="jetson_tx2",
        round_index=1,
        kind=kind,
        due_s=due_s,
        wall_s=100.0,
        status=status,
        lag_s=0.25,
    )


def test_a_device_has_what_it_does_and_how_long_it_should() -> None:
    rows = shown(activity(0, ActivityKind.COMPUTE), now_s=101.0)

    (row,) = [row for row in rows if row[:1] == ["0"]]
    assert row[:4] == ["0", "jetson_tx2", "1", "compute"]
    assert row[-4:] == ["1.0", "of", "2.0", "0.25"]


def test_where_nobody_knows_how_long_it_takes_there_is_no_bar() -> None:
    rows = shown(activity(0, ActivityKind.UPLOAD, math.inf), now_s=101.0)

    (row,) = [row for row in rows if row[:1] == ["0"]]
    assert row == ["0", "jetson_tx2", "1", "upload", "1.0", "0.25"]


def test_a_device_at_rest_says_why_if_it_is_lost() -> None:
    rows = shown(activity(0, None), activity(1, None, status=Status.LATE), now_s=101.0)

    assert [row[3] for row in rows if row[:1] in (["0"], ["1"])] == ["-", "late"]
