"""Logs a run to Weights & Biases, or to a file of its own that can be sent there later."""

from typing import TYPE_CHECKING, Literal

from emulator.observers.base import RoundClosed, RunBegan, RunEnded, RunObserver
from emulator.observers.figures import figures
from emulator.observers.libraries import need

if TYPE_CHECKING:
    from wandb import Run

EXIT_CODES = {"finished": 0, "failed": 1, "interrupted": 130}


class WandB(RunObserver):
    """A run of Weights & Biases: settings as its config, the figures of each round at step = index of the round.

    ``emulated_s`` is declared as what all figures are drawn over.

    Args:
        project: the project that it belongs to.
        mode: ``offline`` writes into the folder ``wandb`` of the run, for ``wandb sync``; ``online`` sends at once.
    """

    def __init__(self, project: str = "jetbed", mode: Literal["offline", "online"] = "offline") -> None:
        need("wandb", "wandb")
        self._project = project
        self._mode = mode
        self._run: Run | None = None

    @property
    def needs_local_folder(self) -> bool:
        return True

    def run_began(self, began: RunBegan) -> None:
        import wandb

        self._run = wandb.init(
            project=self._project,
            mode=self._mode,
            dir=str(began.out_dir),
            name=began.out_dir.name,
            config=dict(began.config),
            # Several runs may be under way in a process; what the library prints would go between the progress lines.
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("emulated_s")
        self._run.define_metric("*", step_metric="emulated_s")

    def round_closed(self, closed: RoundClosed) -> None:
        assert self._run is not None
        self._run.log(figures(closed), step=closed.report.round_index)

    def run_ended(self, ended: RunEnded) -> None:
        if self._run is not None:
            self._run.finish(exit_code=EXIT_CODES[ended.status])
