"""Which runs share hosts, which comes next, and how many hosts it gets."""

import fcntl
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from emulator.backends.batch import BatchRun, alike, lease_size, next_run, pool_size
from emulator.backends.content import content_key
from emulator.backends.locks import exclusive, hold_shared
from emulator.backends.ray_pool import checked_pool_size
from emulator.config import load_config
from emulator.errors import ConfigError
from emulator.running.capacity import HOST_BYTES


def batch_run(name: str = "run", n_devices: int = 80, **overrides: Any) -> BatchRun:
    """A run with settings by key path, written with two underscores for a dot."""
    settings = [(key.replace("__", "."), value) for key, value in overrides.items()]
    return BatchRun(name=name, config=load_config(None, settings), n_devices=n_devices, out_dir=Path("unused"))


def test_runs_share_hosts_that_ask_the_same_of_them_and_keep_their_order() -> None:
    runs = [
        batch_run("a", training__threads_per_host=2),
        batch_run("b"),
        batch_run("c", training__enabled=False),
        batch_run("d", seed=1),
        batch_run("e", backend__gpus_per_host=0.5),
        batch_run("f", training__enabled=False, training__threads_per_host=2),
    ]

    assert [[run.name for run in group] for group in alike(runs)] == [["c", "f"], ["b", "d"], ["e"], ["a"]]


def test_a_run_whose_content_a_host_has_comes_first() -> None:
    assert next_run(["s0", "s1", "s0"], {"s1"}) == 1
    assert next_run(["s0", "s1", "s0"], {"s0", "s1"}) == 0
    assert next_run(["s0", "s1"], set()) == 0


@pytest.mark.parametrize(("n_free", "n_to_start", "size"), [(2, 2, 1), (2, 1, 2), (5, 2, 2), (3, 1, 3), (1, 4, 1)])
def test_free_hosts_are_shared_out_over_the_runs_that_can_start(n_free: int, n_to_start: int, size: int) -> None:
    assert lease_size(n_free, n_to_start) == size


@pytest.mark.parametrize(
    ("free", "overrides", "size"),
    [
        ({"CPU": 2.0}, {}, 2),
        ({"CPU": 8.0}, {"training__threads_per_host": 3}, 2),
        ({"CPU": 64.0}, {}, 10),  # two runs of five stacks
        ({"CPU": 64.0, "memory": 4.5 * HOST_BYTES}, {}, 4),
        ({"CPU": 0.0}, {}, 1),
        ({"CPU": 2.0}, {"backend__hosts": 6}, 6),
        ({"CPU": 8.0, "GPU": 1.0}, {"backend__gpus_per_host": 0.25, "training__devices_stacked": 16}, 4),
        ({"CPU": 8.0, "GPU": 1.0}, {"backend__gpus_per_host": 0.25}, 2),  # on a GPU a run is one stack
    ],
)
def test_a_pool_is_as_large_as_there_is_room_and_use_for(
    free: Mapping[str, float], overrides: Mapping[str, Any], size: int
) -> None:
    runs = [batch_run("a", **overrides), batch_run("b", seed=1, **overrides)]

    assert pool_size(runs, free) == checked_pool_size(runs, free) == size


@pytest.mark.parametrize(
    ("free", "overrides", "expected"),
    [
        ({"CPU": 8.0}, {"backend__gpus_per_host": 0.5}, "lower backend.gpus_per_host, got 0.5"),
        ({"CPU": 8.0, "memory": 3.0 * HOST_BYTES}, {"backend__hosts": 4}, "lower backend.hosts, got 4"),
    ],
)
def test_a_pool_without_room_is_refused(free: Mapping[str, float], overrides: Mapping[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_pool_size([batch_run(**overrides)], free)
    assert expected in str(caught.value)


def test_runs_share_content_that_differ_in_policy_and_training_alone() -> None:
    first = content_key(load_config(None), 80)
    same = [("policy.path", "fedlora"), ("rounds", 3), ("training.batch_size", 3), ("testbed.link", "home-wifi")]
    assert content_key(load_config(None, same), 80) == first

    others = [("seed", 1), ("data.partition.alpha", 0.1), ("model.head", "full"), ("data.seq_len", 16)]
    assert (
        len({first, content_key(load_config(None), 81), *(content_key(load_config(None, [o]), 80) for o in others)})
        == 6
    )


def test_a_lock_is_held_by_one_or_shared_by_many_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, second = hold_shared(path), hold_shared(path)
    with exclusive(path, 0.0) as is_held:
        assert not is_held
    first.close()
    with exclusive(path, 0.0) as is_held:
        assert not is_held
    second.close()
    with exclusive(path, 0.0) as is_held, path.open("a") as other:
        assert is_held
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_the_largest_pool_knows_no_limit_of_memory_where_ray_tells_none() -> None:
    assert pool_size([batch_run()], {"CPU": 4.0}) == pool_size([batch_run()], {"CPU": 4.0, "memory": math.inf}) == 4


def test_a_pool_has_as_many_hosts_as_the_run_that_asks_for_most() -> None:
    runs = [batch_run("a", backend__hosts=3), batch_run("b", backend__hosts=6), batch_run("c")]
    assert pool_size(runs, {"CPU": 2.0}) == 6
