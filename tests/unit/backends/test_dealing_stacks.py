"""Dealing out work: balanced, complete, in the order of the jobs afterwards, and independent of the hosts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.backends.stacks import declared_cost, in_order, longest_first, stack_jobs
from emulator.forms.lora import LoraAssignment, LoraForm, lora_assignment
from emulator.records import Job, TrainingDefaults, Update
from emulator.testing import tiny_model

MODEL = tiny_model(n_layers=4)
FORM = LoraForm(ranks=(2,) * 4)
TRAINING = TrainingDefaults(n_steps=3, batch_size=8, learning_rate=0.1)


def job(device_id: int, depth: int = 4) -> Job:
    assignment = lora_assignment(device_id, TRAINING, FORM.ranks, depth)
    return Job(device_id=device_id, round_index=0, inner_round=0, assignment=assignment, state={})


def update(of: Job) -> Update:
    return Update(
        device_id=of.device_id,
        round_index=of.round_index,
        inner_round=of.inner_round,
        assignment=of.assignment,
        payload={},
        n_examples=1,
        metrics={},
    )


@given(st.lists(st.integers(1, 100), max_size=20), st.integers(1, 6))
def test_every_stack_goes_to_exactly_one_host(costs: list[int], n_hosts: int) -> None:
    shares = longest_first(costs, n_hosts)

    assert len(shares) == n_hosts
    assert sorted(index for share in shares for index in share) == list(range(len(costs)))


@given(st.lists(st.integers(1, 100), min_size=1, max_size=7), st.integers(1, 3))
def test_the_busiest_host_is_within_four_thirds_of_the_best_split(costs: list[int], n_hosts: int) -> None:
    def busiest(hosts: Sequence[int]) -> int:
        return max(sum(cost for cost, own in zip(costs, hosts, strict=True) if own == host) for host in range(n_hosts))

    best = min(busiest(hosts) for hosts in product(range(n_hosts), repeat=len(costs)))
    shares = longest_first(costs, n_hosts)

    # Graham 1969, theorem 2: 4/3 - 1/(3 m) for m hosts.
    assert max(sum(costs[index] for index in share) for share in shares) <= (4 / 3 - 1 / (3 * n_hosts)) * best + 1e-9


def test_the_longest_stacks_are_dealt_out_first_to_whoever_has_least() -> None:
    # 5 -> host 0; 4 -> host 1; then the threes, to loads 5|4, 5|7 and 8|7: host 1, host 0, host 1.
    assert longest_first([3, 5, 3, 4, 3], 2) == [[1, 2], [3, 0, 4]]


def test_a_stack_costs_its_examples_times_the_layers_that_they_pass() -> None:
    # 3 steps of 8 examples; 4 layers forward and 4 or 1 backward.
    assert declared_cost([job(0, depth=4), job(1, depth=1)], FORM, MODEL) == 3 * 8 * ((4 + 4) + (4 + 1))


def test_stacks_follow_from_the_jobs_alone_and_not_from_their_order() -> None:
    jobs = [job(device_id, depth=1 + device_id % 4) for device_id in range(10)]

    def ids(stacks: list[list[Job]]) -> list[list[int]]:
        return [[found.device_id for found in stack] for stack in stacks]

    assert ids(stack_jobs(jobs, 4, 0)) == ids(stack_jobs(jobs[::-1], 4, 0))


@pytest.mark.parametrize("devices_per_actor", [1, 2, 3])
def test_a_stack_stays_within_the_devices_of_one_actor(devices_per_actor: int) -> None:
    stacks = stack_jobs([job(device_id) for device_id in range(7)], 16, devices_per_actor)

    owners = [{found.device_id // devices_per_actor for found in stack} for stack in stacks]
    assert all(len(owner) == 1 for owner in owners)
    assert sorted(found.device_id for stack in stacks for found in stack) == list(range(7))


def test_updates_come_back_in_the_order_of_the_jobs() -> None:
    jobs = [job(device_id) for device_id in (4, 1, 3)]

    updates = in_order([update(found) for found in reversed(jobs)], jobs)

    assert [found.device_id for found in updates] == [4, 1, 3]


def test_two_updates_of_one_device_are_told_apart() -> None:
    jobs = [replace(job(4), round_index=2), job(1), replace(job(4), round_index=2, inner_round=1)]

    updates = in_order([update(found) for found in reversed(jobs)], jobs)

    assert [found.key for found in updates] == [(4, 2, 0), (1, 0, 0), (4, 2, 1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Coupled(LoraAssignment):
    @property
    def is_coupled(self) -> bool:
        return True


@pytest.mark.parametrize("devices_per_actor", [0, 1, 4])
def test_coupled_jobs_meet_on_one_host(devices_per_actor: int) -> None:
    jobs = [replace(job(i), assignment=Coupled(**asdict(job(i).assignment))) for i in range(9)]

    assert [len(stack) for stack in stack_jobs(jobs, 2, devices_per_actor)] == [9]
