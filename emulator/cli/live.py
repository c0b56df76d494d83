"""The table of devices at work, on a terminal."""

import math
import time
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from emulator.cli.display import STARTING, RunDisplay, facts_of
from emulator.config import Config
from emulator.observers.base import Progress
from emulator.running.live.watching import DeviceActivity

REFRESHES_PER_S = 8
BAR_WIDTH = 16


class DevicesAtWork(RunDisplay):
    """A row for each device that has begun something: what it does, how far it should be, and how far it is behind."""

    def __init__(self, console: Console, config: Config, wall_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console)
        self._title = f"{config.policy.path} live, {config.pace_factor:g} emulated seconds per second"
        self._facts = STARTING
        self._wall_s = wall_s
        self._activities: dict[int, DeviceActivity] = {}
        self._live = Live(console=console, refresh_per_second=REFRESHES_PER_S, get_renderable=self.table)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *error: object) -> None:
        # A terminal that has hung up cannot be drawn on, which must not hide why the run ended.
        with suppress(OSError):
            self._live.stop()

    def device_changed(self, activity: DeviceActivity) -> None:
        self._activities[activity.device_id] = activity

    def progressed(self, progress: Progress) -> None:
        if progress.rounds_done:
            self._facts = f"round {progress.rounds_done}/{progress.n_rounds}  {facts_of(progress)}"

    def table(self) -> Table:
        """The devices as they are now."""
        table = Table(title=self._title, caption=self._facts, title_justify="left", caption_justify="left", box=None)
        for name in ("device", "board", "round", "doing", "", "s"):
            table.add_column(name)
        table.add_column("lag s", justify="right")
        now_s = self._wall_s()
        for device_id, activity in sorted(self._activities.copy().items()):
            spent_s = max(0.0, now_s - activity.wall_s)
            table.add_row(
                str(device_id),
                activity.board,
                str(activity.round_index),
                activity.kind.value if activity.kind else _rest(activity),
                _bar(activity, spent_s),
                _of(spent_s, activity.due_s) if activity.kind else "",
                f"{activity.lag_s:.2f}",
            )
        return table


def _rest(activity: DeviceActivity) -> str:
    return activity.status.value if activity.status.is_lost else "-"


def _bar(activity: DeviceActivity, spent_s: float) -> ProgressBar | str:
    if activity.kind is None or not math.isfinite(activity.due_s):
        return ""
    return ProgressBar(total=max(activity.due_s, 1e-9), completed=min(spent_s, activity.due_s), width=BAR_WIDTH)


def _of(spent_s: float, due_s: float) -> str:
    """Seconds of the wall that have passed, of those that it should take."""
    return f"{spent_s:.1f}" if not math.isfinite(due_s) else f"{spent_s:.1f} of {due_s:.1f}"
