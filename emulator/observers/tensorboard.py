"""Draws a run in TensorBoard, with emulated time on its relative axis."""

from typing import TYPE_CHECKING

from emulator.observers.base import RoundClosed, RunBegan, RunEnded, RunObserver
from emulator.observers.figures import figures
from emulator.observers.libraries import need

if TYPE_CHECKING:
    from tensorboard.summary import Writer


class TensorBoard(RunObserver):
    """Writes an event file: a scalar for each figure of a round, at step = index of the round.

    The wall time of a scalar is the emulated second at which its round ended, so that TensorBoard's axis "relative"
    shows emulated time, and its axis "wall" begins in 1970.

    Args:
        folder: where the event file goes, relative to the folder of the run.
    """

    def __init__(self, folder: str = "tensorboard") -> None:
        need("tensorboard", "tensorboard")
        self._folder = folder
        self._writer: Writer | None = None

    @property
    def needs_local_folder(self) -> bool:
        return True

    def run_began(self, began: RunBegan) -> None:
        from tensorboard.summary import Writer

        self._writer = Writer(str(began.out_dir / self._folder))

    def round_closed(self, closed: RoundClosed) -> None:
        assert self._writer is not None
        found = figures(closed)
        for name, value in found.items():
            self._writer.add_scalar(name, value, closed.report.round_index, wall_time=found["emulated_s"])
        self._writer.flush()

    def run_ended(self, ended: RunEnded) -> None:
        if self._writer is not None:
            self._writer.close()
