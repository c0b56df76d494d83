"""Stacks follow from the jobs and the setting alone."""

import random
import subprocess
import sys
from dataclasses import asdict, dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.backends.stacks import evaluation_shards, stacks
from emulator.forms.lora import LoraAssignment
from emulator.records import Job


def job(device_id: int, depth: int = 2, n_steps: int = 3, batch_size: int = 4) -> Job:
    assignment = LoraAssignment(
        device_id=device_id,
        n_steps=n_steps,
        batch_size=batch_size,
        learning_rate=0.1,
        ranks=(4, 4, 4),
        depth=depth,
    )
    return Job(device_id=device_id, round_index=0, inner_round=0, assignment=assignment, state={})


@given(st.integers(0, 100), st.integers(1, 20), st.integers(0, 1000))
def test_every_job_is_in_one_stack_of_near_equal_size(n_jobs: int, devices_stacked: int, seed: int) -> None:
    rng = random.Random(seed)
    jobs = [job(i, rng.randint(0, 3), rng.randint(1, 3), rng.randint(1, 3)) for i in range(n_jobs)]
    cut = stacks(jobs, devices_stacked)
    assert sorted(one.device_id for stack in cut for one in stack) == list(range(n_jobs))
    lengths = [len(stack) for stack in cut]
    assert not lengths or (max(lengths) <= devices_stacked and max(lengths) - min(lengths) <= 1)
    assert stacks(rng.sample(jobs, len(jobs)), devices_stacked) == cut


def test_like_shapes_share_a_stack() -> None:
    cut = stacks([job(i, depth=1 + i % 2) for i in range(6)], 3)
    assert [[one.device_id for one in stack] for stack in cut] == [[1, 3, 5], [0, 2, 4]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Keyed(LoraAssignment):
    @property
    def stack_key(self) -> tuple[int, ...]:
        return (self.device_id % 2,)


def test_devices_whose_keys_differ_never_share_a_pass() -> None:
    jobs = [replace(job(i), assignment=Keyed(**asdict(job(i).assignment))) for i in range(8)]
    assert [[one.device_id for one in stack] for stack in stacks(jobs, 3)] == [[0, 2], [4, 6], [1, 3], [5, 7]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Coupled(LoraAssignment):
    @property
    def is_coupled(self) -> bool:
        return self.device_id > 1


def test_coupled_devices_are_one_stack_however_many_they_are() -> None:
    jobs = [replace(job(i), assignment=Coupled(**asdict(job(i).assignment))) for i in range(8)]
    assert [[one.device_id for one in stack] for stack in stacks(jobs, 1)] == [[0], [1], [2, 3, 4, 5, 6, 7]]


def test_evaluation_shards_depend_on_the_setting_alone() -> None:
    assert evaluation_shards(10, 4) == [range(4), range(4, 8), range(8, 10)]


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_below_one_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="devices_stacked must be at least 1"):
        stacks([job(0)], size)
    with pytest.raises(ValueError, match="eval_shard_size must be at least 1"):
        evaluation_shards(3, size)


def test_stacking_and_settings_need_no_torch() -> None:
    code = "import sys, emulator.backends.stacks, emulator.learning.settings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
