"""Taking work from the slowest device until nobody waits long."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.algorithms.balancing import relieve_slowest

SPEEDS_S = st.lists(st.floats(0.1, 20.0), min_size=1, max_size=12)


def determined(
    layer_s: Mapping[int, float],
    most: int = 12,
    waiting_fraction: float = 0.2,
    min_depth: int = 1,
    fixed_s: float = 0.0,
) -> dict[int, int]:
    """Depths where device ``d`` takes ``fixed_s`` and ``layer_s[d]`` for each layer."""
    return relieve_slowest(
        lambda device, depth: fixed_s + depth * layer_s[device],
        dict.fromkeys(layer_s, most),
        waiting_fraction,
        min_depth,
    )


def mean_waiting_fraction(times_s: list[float]) -> float:
    return (max(times_s) - sum(times_s) / len(times_s)) / max(times_s)


def test_devices_of_one_speed_keep_all_their_layers() -> None:
    assert determined(dict.fromkeys(range(5), 3.0)) == dict.fromkeys(range(5), 12)


def test_a_slow_device_gives_up_layers_until_waiting_is_tolerable() -> None:
    # Device 0 takes 12 s. Device 1 takes 2 s per layer, t in all: the mean waiting (t - 12) / 2 is at most 0.2 t from
    # t = 20 s on, that is at 10 layers.
    assert determined({0: 1.0, 1: 2.0}) == {0: 12, 1: 10}


def test_the_waiting_that_is_tolerated_may_be_everything_or_nothing() -> None:
    layer_s = {0: 1.0, 1: 2.0}

    assert determined(layer_s, waiting_fraction=1.0) == {0: 12, 1: 12}
    # Nobody may wait at all: 6 layers of 2 s are 12 layers of 1 s.
    assert determined(layer_s, waiting_fraction=0.0) == {0: 12, 1: 6}


def test_nobody_is_asked_to_train_less_than_the_least_depth() -> None:
    assert determined({0: 1.0, 1: 100.0}, min_depth=3) == {0: 12, 1: 3}


def test_a_device_at_the_least_depth_ends_the_search_or_is_left_out_of_it() -> None:
    # Device 0 takes 3 x 100 s at the least depth; the others 12, 24 and, at 6 layers, 12 s.
    layer_s = {0: 100.0, 1: 1.0, 2: 2.0}

    def depths(skips_floor: bool) -> dict[int, int]:
        most = dict.fromkeys(layer_s, 12)
        return relieve_slowest(lambda device, depth: depth * layer_s[device], most, 0.0, 3, skips_floor)

    assert depths(skips_floor=False) == {0: 3, 1: 12, 2: 12}
    assert depths(skips_floor=True) == {0: 3, 1: 12, 2: 6}


def test_where_all_but_the_fastest_are_at_the_least_depth_the_search_ends() -> None:
    assert relieve_slowest(lambda device, depth: depth * (device + 1.0), {0: 2, 1: 2, 2: 2}, 0.0, 2, True) == {
        0: 2,
        1: 2,
        2: 2,
    }


def test_a_device_that_may_train_few_layers_is_never_given_more() -> None:
    depths = relieve_slowest(lambda device, depth: float(depth), {0: 12, 1: 4}, 0.5, 1)

    assert depths == {0: 12, 1: 4}


def test_without_known_devices_there_is_nothing_to_determine() -> None:
    assert relieve_slowest(lambda device, depth: 1.0, {}, 0.2, 1) == {}


@given(SPEEDS_S, st.floats(0.0, 1.0), st.integers(1, 12), st.floats(0.0, 50.0))
def test_the_fastest_device_keeps_all_layers_and_the_search_ends_for_a_reason(
    speeds_s: list[float], waiting_fraction: float, min_depth: int, fixed_s: float
) -> None:
    layer_s = dict(enumerate(speeds_s))

    depths = determined(layer_s, 12, waiting_fraction, min_depth, fixed_s)

    times_s = [fixed_s + depths[device] * layer_s[device] for device in layer_s]
    slowest = times_s.index(max(times_s))
    assert depths[speeds_s.index(min(speeds_s))] == 12
    assert all(min_depth <= depth <= 12 for depth in depths.values())
    # It ends when waiting is tolerable, or when the slowest is at the least depth or is the fastest itself.
    tolerable = mean_waiting_fraction(times_s) <= waiting_fraction + 1e-9
    ties = [device for device in layer_s if times_s[device] == pytest.approx(times_s[slowest], rel=1e-9)]
    assert tolerable or any(depths[device] in (min_depth, 12) for device in ties)
