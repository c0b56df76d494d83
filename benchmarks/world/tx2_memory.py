"""Which setting explains the peak memory that was published for a Jetson TX2 by depth, of adapters and of full tuning.

    python -m benchmarks.world.tx2_memory

FedAdapter states peaks for depth 0 to 12 without batch size, attention or optimizer (``device_profiles/
tx2_adapter_steps.csv``). Every combination of batch size, length, attention, dropout, optimizer and allocator is priced
for both rows at once. The runtime's memory is what is left of the published 1.2 GB at depth 0, the same for both rows.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

from emulator.forms.bottleneck import BottleneckForm
from emulator.records import ADAMW, Adapters, LocalOptimizer, Work, WorkKind
from emulator.shapes.catalog import model_spec
from emulator.shapes.spec import ModelSpec
from emulator.world.price.memory import peak_memory
from emulator.world.price.step import Attention
from emulator.world.price.step_kinds import step_of

TX2_STEPS = Path(__file__).parents[2] / "device_profiles" / "tx2_adapter_steps.csv"
BATCH_SIZES = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)
LENGTHS = (64, 128, 192, 256, 384, 512)
STATED_LENGTH = 256  # in a comment beside the step times of the same paper
SGD = replace(ADAMW, name="sgd")

SHARE = 0.3
"""Of the activations, for what an allocator holds beyond them: the alternative to a replay."""

HeldBy = Literal["tensors alone", "a share of 0.3", "replayed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A setting that both rows might have been measured in."""

    batch_size: int
    seq_len: int
    attention: Attention
    dropout: bool
    optimizer: LocalOptimizer
    held_by: HeldBy

    def __str__(self) -> str:
        drops = "dropout" if self.dropout else "no dropout"
        sizes = f"batch {self.batch_size} x {self.seq_len}"
        return f"{sizes}, {self.attention}, {drops}, {self.optimizer.name}, {self.held_by}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """How far a candidate is off: the largest and the mean error of a row's peaks, without signs."""

    candidate: Candidate
    runtime_gb: float
    worst: dict[str, float]
    mean: dict[str, float]

    @property
    def worst_of_both(self) -> float:
        return max(self.worst.values())


def published() -> dict[str, list[float]]:
    """Peaks in GB by depth, of each row."""
    lines = [line for line in TX2_STEPS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    return {
        "adapters": [float(row["adapter_peak_gb"]) for row in rows],
        "full": [float(row["full_finetune_peak_gb"]) for row in rows],
    }


def candidates() -> Iterator[Candidate]:
    """All of them; AdamW without dropout is replayed as well, which takes a minute or two."""
    for batch_size, seq_len, attention, dropout, optimizer in product(
        BATCH_SIZES, LENGTHS, ("eager", "sdpa"), (False, True), (ADAMW, SGD)
    ):
        ways: tuple[HeldBy, ...] = ("tensors alone", "a share of 0.3")
        if not dropout and optimizer == ADAMW:
            ways = (*ways, "replayed")
        for held_by in ways:
            yield Candidate(
                batch_size=batch_size,
                seq_len=seq_len,
                attention=attention,  # type: ignore[arg-type]
                dropout=dropout,
                optimizer=optimizer,
                held_by=held_by,
            )


def peak_gb(model: ModelSpec, candidate: Candidate, kind: WorkKind, depth: int) -> float:
    """Priced, without the runtime."""
    (behind_mlp,) = BottleneckForm().adapters(model)
    held = ((replace(behind_mlp, place="attention_output"), 1), (behind_mlp, 1))  # two in a layer, as Houlsby et al.
    is_adapted = kind is WorkKind.ADAPTERS
    work = Work(
        n_steps=1,
        batch_size=candidate.batch_size,
        seq_len=candidate.seq_len,
        forward_layers=12,
        backward_layers=depth,
        adapters=Adapters(((),) * (12 - depth) + (held,) * depth) if is_adapted else Adapters(),
        kind=kind,
    )
    if candidate.held_by == "replayed":
        return peak_memory(model, work, "fp32", attention=candidate.attention).total_bytes / 1e9
    memory = step_of(model, work, "fp32", candidate.optimizer).memory(
        attention=candidate.attention, dropout=candidate.dropout
    )
    share = 0.0 if candidate.held_by == "tensors alone" else SHARE
    return (memory.total_bytes + share * memory.activations_bytes) / 1e9


def explained(candidate: Candidate, rows: dict[str, list[float]]) -> Explanation:
    """A candidate held against both rows."""
    model = model_spec("bert-base", n_labels=2, seq_len=candidate.seq_len, head="output")
    kinds = {"adapters": WorkKind.ADAPTERS, "full": WorkKind.WEIGHTS}
    priced = {row: [peak_gb(model, candidate, kinds[row], depth) for depth in range(13)] for row in rows}
    runtime_gb = rows["adapters"][0] - priced["adapters"][0]
    errors = {
        row: [abs((runtime_gb + gb) / stated - 1) for gb, stated in zip(priced[row], rows[row], strict=True)]
        for row in rows
    }
    return Explanation(
        candidate=candidate,
        runtime_gb=runtime_gb,
        worst={row: max(of_row) for row, of_row in errors.items()},
        mean={row: sum(of_row) / len(of_row) for row, of_row in errors.items()},
    )


def main() -> None:
    rows = published()
    found = sorted((explained(each, rows) for each in candidates()), key=lambda each: each.worst_of_both)
    possible = [each for each in found if each.runtime_gb > 0]
    print("setting | runtime GB | adapters: mean, worst | full: mean, worst")
    shown = [*possible[:12]]
    for held_by in ("tensors alone", "a share of 0.3", "replayed"):
        shown.append(next(each for each in possible if each.candidate.held_by == held_by))
    shown += [each for each in possible if each.candidate.seq_len == STATED_LENGTH][:3]
    for each in shown:
        of_rows = " | ".join(f"{each.mean[row]:.1%}, {each.worst[row]:.1%}" for row in rows)
        print(f"{each.candidate} | {each.runtime_gb:.2f} | {of_rows}")


if __name__ == "__main__":
    main()
