"""How many hosts a sweep is expected to have on this machine."""

import pytest

from emulator.backends.kinds import RAY_BYTES
from emulator.running import capacity
from emulator.running.capacity import HOST_BYTES
from emulator.sweeps.estimate import largest_pool
from tests.unit.backends.test_batch import batch_run


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty-four cores, and memory for Ray with four hosts and a half."""
    monkeypatch.setattr(capacity, "n_cores", lambda: 64)
    monkeypatch.setattr(capacity, "available_bytes", lambda: int(RAY_BYTES + 4.5 * HOST_BYTES))


def test_hosts_of_a_sweep_are_those_that_memory_has_room_for() -> None:
    assert largest_pool([batch_run("a"), batch_run("b", seed=1)]) == 4


def test_the_largest_of_several_pools_counts() -> None:
    narrow = [batch_run(str(seed), seed=seed, training__threads_per_host=32) for seed in range(3)]
    assert largest_pool(narrow) == 2
    assert largest_pool([*narrow, batch_run("wide", backend__hosts=9)]) == 9


def test_runs_that_train_nothing_or_in_this_process_have_no_pool() -> None:
    assert largest_pool([]) == 0
    assert largest_pool([batch_run("a", training__enabled=False), batch_run("b", backend__kind="inline")]) == 0
