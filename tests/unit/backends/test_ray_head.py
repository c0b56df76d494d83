"""A cluster of our own comes without the processes that nobody would ask anything of."""

import inspect

import pytest
import ray._private.parameter as parameter

from emulator.backends.ray_head import LEFT_OUT, lean_head


def test_this_ray_knows_what_is_left_out() -> None:
    assert set(LEFT_OUT) <= set(inspect.signature(parameter.RayParams).parameters)


def test_a_head_within_the_block_starts_without_them() -> None:
    with lean_head():
        started = parameter.RayParams(num_cpus=1)
    assert started.no_monitor
    assert not started.include_log_monitor
    assert started.num_cpus == 1


def test_after_the_block_ray_is_as_it_was() -> None:
    before = parameter.RayParams
    with pytest.raises(RuntimeError), lean_head():
        raise RuntimeError
    assert parameter.RayParams is before


def test_a_ray_that_knows_them_no_longer_starts_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later:
        def __init__(self, num_cpus: int) -> None:
            self.num_cpus = num_cpus

    monkeypatch.setattr(parameter, "RayParams", Later)
    with lean_head():
        assert parameter.RayParams(num_cpus=1).num_cpus == 1
