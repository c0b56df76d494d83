"""The page: a table for each kind of task, made from the Parquet files of its cells."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.tasks.cells import TASKS, Task
from benchmarks.tasks.runs import FEDERATED, N_STEPS, RANK, Result
from emulator.objective.scores import SCORES

MOST_APART = 1e-4
"""How far the losses of the plain loop and of jetbed may be apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """The figures of a cell.

    Attributes:
        train_losses: the mean over the steps of the loop, and of the one device.
        held_out_losses: behind the last step, of the loop, and of the one device.
        scores: of the federated run after its first round, and after its last.
    """

    result: Result
    train_losses: tuple[float, float]
    held_out_losses: tuple[float, float]
    scores: tuple[float, float]

    @property
    def apart(self) -> float:
        """The larger difference of both losses."""
        return max(abs(loop - own) for loop, own in (self.train_losses, self.held_out_losses))

    @property
    def is_equal(self) -> bool:
        """Whether the loop and jetbed came to the same."""
        return self.apart <= MOST_APART

    @property
    def learns(self) -> bool:
        """Whether the last round of the federated run is better than its first."""
        first, last = self.scores
        return last > first if SCORES[self.result.cell.task.score].is_higher_better else last < first


def line_of(result: Result) -> Line:
    """The figures of a cell, of its tables."""
    rounds = result.federated.rounds[result.cell.task.score]
    return Line(
        result=result,
        train_losses=(
            float(result.central["train_loss"].mean()),
            float(result.alone.devices["train_loss"].iloc[0]),
        ),
        held_out_losses=(
            float(result.central["held_out_loss"].iloc[-1]),
            float(result.alone.rounds["loss"].iloc[-1]),
        ),
        scores=(float(rounds.iloc[0]), float(rounds.iloc[-1])),
    )


def page(lines: Sequence[Line]) -> str:
    """The page, as Markdown."""
    most = max(line.apart for line in lines)
    text = [
        "# What can be learnt",
        "",
        f"Each kind of task with each family of models at hand: LoRA of rank {RANK} by peft and `torch.optim.AdamW` in "
        f"a plain loop beside jetbed's run of one device, both {N_STEPS} steps from the same adapter over the same "
        f"batches; and a federated run of {FEDERATED['testbed.n_devices']} devices, with its score after the first "
        "round and after the last. Models that are called by their family are tiny and have random weights, so that "
        "their scores tell that something is learnt and no more.",
        "",
        "The loop reads model, rows and adapter from files and knows nothing of jetbed. *Training loss* is the mean "
        f"over the {N_STEPS} steps, *held-out loss* that behind the last of them; *apart* is the larger difference.",
        f"Over all {len(lines)} lines they are at most {_small(most)} apart; {_verdict(lines)}",
        "",
        "Made by `python -m benchmarks.tasks` from Parquet.",
        "",
    ]
    for task in TASKS:
        own = [line for line in lines if line.result.cell.task is task]
        if own:
            text += [f"## {task.name[0].upper()}{task.name[1:]}", "", *_table(task, own), ""]
    return "\n".join(text).rstrip() + "\n"


def _table(task: Task, lines: Sequence[Line]) -> list[str]:
    title = SCORES[task.score].title
    head = ["model", "rows", "training loss: loop", "jetbed", "held-out loss: loop", "jetbed", "apart"]
    head += [f"8 devices: {title} after round 1", "after the last", "rounds"]
    cells = [
        [
            f"`{line.result.cell.model}`",
            line.result.cell.data,
            *(f"{loss:.5f}" for loss in (*line.train_losses, *line.held_out_losses)),
            _small(line.apart) + ("" if line.is_equal else " **no**"),
            f"{line.scores[0]:.3f}",
            f"{line.scores[1]:.3f}" + ("" if line.learns else " **no**"),
            str(len(line.result.federated.rounds)),
        ]
        for line in lines
    ]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells)]


def _verdict(lines: Sequence[Line]) -> str:
    n_equal, n_learn = sum(line.is_equal for line in lines), sum(line.learns for line in lines)
    return f"{n_equal} are within {MOST_APART:g}, and {n_learn} of the federated runs end better than they began."


def _small(value: float) -> str:
    return f"{value:.0e}"
