"""How numeric work is cut into stacks that share a pass, and dealt out to hosts. No torch.

Stacks go longest first to whoever has least to do. Results do not depend on the number of hosts.
"""

import heapq
from collections.abc import Sequence
from itertools import pairwise

from emulator.forms.base import AdapterForm
from emulator.records import Job, Update
from emulator.shapes.spec import ModelSpec


def stack_jobs(jobs: Sequence[Job], devices_stacked: int, devices_per_actor: int | None) -> list[list[Job]]:
    """Jobs that are trained in one pass.

    Where every actor owns its devices, a stack never crosses two of them, unless its jobs are coupled: those meet on
    one.
    """
    if not devices_per_actor:
        return stacks(jobs, devices_stacked)
    owners: dict[int, list[Job]] = {}
    meeting = min((job.device_id for job in jobs if job.assignment.is_coupled), default=0)
    for job in jobs:
        home = meeting if job.assignment.is_coupled else job.device_id
        owners.setdefault(home // devices_per_actor, []).append(job)
    return [stack for owner in sorted(owners) for stack in stacks(owners[owner], devices_stacked)]


def most_stacked(form: AdapterForm, devices_stacked: int) -> int:
    """How many devices a stack of jobs for ``form`` has at most."""
    return devices_stacked if form.shares_passes else 1


def declared_cost(stack: Sequence[Job], form: AdapterForm, model: ModelSpec) -> float:
    """How long a stack takes, up to a factor that is the same for all: examples times layers passed, both ways."""
    works = [form.work(job.assignment, model) for job in stack]
    return sum(work.n_steps * work.batch_size * (work.forward_layers + work.backward_layers) for work in works)


def longest_first(costs: Sequence[float], n_hosts: int) -> list[list[int]]:
    """For each host the indices of its stacks (Graham 1969, longest processing time): within 4/3 of the best split."""
    shares: list[list[int]] = [[] for _ in range(n_hosts)]
    loads = [(0.0, host) for host in range(n_hosts)]
    for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        load, host = heapq.heappop(loads)
        shares[host].append(index)
        heapq.heappush(loads, (load + costs[index], host))
    return shares


def in_order(updates: Sequence[Update], jobs: Sequence[Job]) -> list[Update]:
    """``updates`` in the order of their ``jobs``, whoever was done first."""
    by_key = {update.key: update for update in updates}
    return [by_key[job.key] for job in jobs]


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
    assignment = job.assignment
    sizes = (-assignment.backward_layers, -assignment.n_steps, -assignment.batch_size)
    return (*sizes, job.round_index, job.inner_round, job.device_id)
