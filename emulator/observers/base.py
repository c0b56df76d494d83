"""The contract of observers: what a run tells of itself while it goes on, and to whom.

An observer sees results and changes none. A class of one's own inherits from :class:`RunObserver` and overrides what it
wants to be told of.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from emulator.records import RoundReport
from emulator.storage.places import Place


@dataclass(frozen=True, kw_only=True, slots=True)
class RunBegan:
    """A run whose first round is over.

    Attributes:
        info: what ``run.json`` says of the run, as plain data.
        config: all settings of the run as plain data, table by table; the policy's with its defaults.
        out_dir: the folder of the run, which is there from now on. An observer may write beside its tables.
        n_rounds: how many rounds the run will have.
        first_round: the index of the round that comes first: 0, or where a run that is resumed goes on.
    """

    info: Mapping[str, Any]
    config: Mapping[str, Any]
    out_dir: Place
    n_rounds: int
    first_round: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run is. Once ``rounds_done`` says that a round is done, its rows are safe on disk.

    Attributes:
        rounds_done: rounds that are on disk.
        n_rounds: how many the run will have.
        jobs_done: jobs of the round under way that are trained.
        n_jobs: how many it has; 0 while nothing is trained.
        now_s: emulated seconds at the end of the last round.
        accuracy: of the last evaluation; None before the first, and in tasks that have none.
        score, score_name: the same of what people quote of such runs, and which score that is.
        mean_waiting_s: of the last round, over its cohort, in emulated seconds.
        energy_j: of all devices in all rounds.
        transferred_bytes: of all devices in all rounds, down and up.
        upload_bytes: of these, what was sent.
    """

    rounds_done: int
    n_rounds: int
    jobs_done: int = 0
    n_jobs: int = 0
    now_s: float = 0.0
    accuracy: float | None = None
    score: float | None = None
    score_name: str = "accuracy"
    mean_waiting_s: float | None = None
    energy_j: float = 0.0
    transferred_bytes: int = 0
    upload_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundClosed:
    """A round that is over.

    Attributes:
        report: what the policy was told of it.
        rows: by table (``rounds``, ``devices``, ``activities``) the columns that are written of it, each a sequence
            with one value per row; ``docs/results.md`` says what they mean.
    """

    report: RoundReport
    rows: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEnded:
    """How a run ended.

    Attributes:
        status: as in ``run.json``.
        error: what made it fail, on one line; None where it did not.
    """

    status: Literal["finished", "failed", "interrupted"]
    error: str | None = None


class RunObserver:
    """Told what becomes of a run. Every method does nothing until it is overridden.

    The order is ``run_began``, then ``round_closed`` for each round, then ``run_ended``; ``progressed`` and ``warned``
    come at any time. A run that fails in its first round has no folder and has not begun: then ``run_ended`` is all.

    An observer that raises is told nothing more; its error is said once, and the run goes on. A constructor opens
    nothing and starts nothing, since observers are also made to check a configuration.
    """

    @property
    def needs_local_folder(self) -> bool:
        """Whether it writes files of its own into the folder of the run, which then must lie on this machine."""
        return False

    def run_began(self, began: RunBegan) -> None:
        """The first round is over, and the folder of the run is there."""

    def progressed(self, progress: Progress) -> None:
        """A job was trained or a round was closed; where there is much to tell, only the newest is told."""

    def warned(self, text: str) -> None:
        """Something that who reads the results should know, in one sentence."""

    def round_closed(self, closed: RoundClosed) -> None:
        """A round is over and its rows are with the writer."""

    def run_ended(self, ended: RunEnded) -> None:
        """Nothing more comes; what was written is whole."""
