"""How numeric work is cut: which devices are trained in one pass, and which rows are evaluated together. No torch."""

from collections.abc import Sequence
from itertools import pairwise

from emulator.records import Job

DEVICES_STACKED = 16
"""How many devices share a pass unless a config says otherwise. On a CPU core 8 to 20 are equally fast per device."""


def stacks(jobs: Sequence[Job], devices_stacked: int) -> list[list[Job]]:
    """Groups ``jobs`` into stacks of at most ``devices_stacked``: alike in shape, per stack key near-equal in size.

    The grouping follows from the jobs and the setting alone, never from the number of hosts or the order of ``jobs``:
    what shares a pass decides the last bits of the numbers. Coupled jobs are never parted.

    Raises:
        ValueError: ``devices_stacked`` is less than 1.
    """
    if devices_stacked < 1:
        raise ValueError(f"devices_stacked must be at least 1, got {devices_stacked!r}")
    alike: dict[tuple[bool, tuple[int, ...]], list[Job]] = {}
    for job in sorted(jobs, key=_shape):
        alike.setdefault((job.assignment.is_coupled, job.assignment.stack_key), []).append(job)
    return [
        stack
        for ordered in alike.values()
        for stack in ([ordered] if ordered[0].assignment.is_coupled else _near_equal(ordered, devices_stacked))
    ]


def _near_equal(jobs: list[Job], most: int) -> list[list[Job]]:
    n_stacks = -(-len(jobs) // most)
    return [
        jobs[start:stop] for start, stop in pairwise(len(jobs) * index // n_stacks for index in range(n_stacks + 1))
    ]


def evaluation_shards(n_rows: int, shard_size: int) -> list[range]:
    """Cuts ``n_rows`` held-out rows into shards of ``shard_size`` (the last may be shorter), in ascending order.

    Raises:
        ValueError: ``shard_size`` is less than 1.
    """
    if shard_size < 1:
        raise ValueError(f"eval_shard_size must be at least 1, got {shard_size!r}")
    return [range(start, min(start + shard_size, n_rows)) for start in range(0, n_rows, shard_size)]


def _shape(job: Job) -> tuple[int, int, int, int, int, int]:
    """What makes two jobs cheap to run side by side; the largest come first, ids break ties."""
    depth = getattr(job.assignment, "depth", 0)  # assignments of forms without a depth train alike deep
    assignment = job.assignment
    return (-depth, -assignment.n_steps, -assignment.batch_size, job.round_index, job.inner_round, job.device_id)
