"""Which held-out rows are evaluated together, and what their sums come to; the same whatever hosts there are."""

from collections.abc import Sequence

from emulator.backends.stacks import evaluation_shards
from emulator.objective.base import Objective
from emulator.objective.own_rows import with_own_rows
from emulator.records import Evaluation, EvaluationShard, Prepared


def all_shards(prepared: Prepared, shard_size: int) -> list[range]:
    """The shards of the server's held-out rows, and then one for each device that has held out rows of its own."""
    return [*evaluation_shards(prepared.n_test_rows, shard_size), *_own_rows(prepared).values()]


def evaluation_of(objective: Objective, prepared: Prepared, evaluated: Sequence[EvaluationShard]) -> Evaluation:
    """What the sums over :func:`all_shards` come to, which are given in their order."""
    own = _own_rows(prepared)
    n_shared = len(evaluated) - len(own)
    whole = objective.evaluation(evaluated[:n_shared])
    return with_own_rows(objective, whole, dict(zip(own, evaluated[n_shared:], strict=True)))


def _own_rows(prepared: Prepared) -> dict[int, range]:
    offsets = prepared.own_test_offsets
    spans = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    return {device: range(start, stop) for device, (start, stop) in enumerate(spans) if start < stop}
