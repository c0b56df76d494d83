"""How stacks of jobs are dealt out to hosts: longest first, to whoever has least to do. Results do not depend on it."""

import heapq
from collections.abc import Sequence

from emulator.forms.base import AdapterForm
from emulator.learning.stacking import stacks
from emulator.model_spec import ModelSpec
from emulator.records import Evaluation, EvaluationShard, Job, Update


def stack_jobs(jobs: Sequence[Job], devices_stacked: int, devices_per_actor: int) -> list[list[Job]]:
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
    by_device = {update.device_id: update for update in updates}
    return [by_device[job.device_id] for job in jobs]


def evaluation_of(shards: Sequence[EvaluationShard]) -> Evaluation:
    """The evaluation over all held-out data; sums run in the order of the shards."""
    n_examples = sum(shard.n for shard in shards)
    return Evaluation(
        accuracy=sum(shard.n_correct for shard in shards) / n_examples,
        loss=sum(shard.loss_sum for shard in shards) / n_examples,
        n_examples=n_examples,
    )
