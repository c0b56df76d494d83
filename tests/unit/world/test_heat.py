"""Boards warm up and cool down exponentially, and slow down at the limit: closed forms."""

import math

import pytest

from device_profiles.records import Thermal
from emulator.world.heat import Heat

# 10 W bring 100 K in the end; the limit of 50 K is reached after ln 2 time constants.
THERMAL = Thermal(rise_k_per_w=10, time_constant_s=100, limit_k=50, throttled_speed_fraction=0.5)
HALF_S = 100 * math.log(2)


def excess_k(heat: Heat, device_id: int) -> float:
    """The temperature that work of 1,000 s at 10 W tells: what is not at full speed takes twice as long."""
    full_speed_s = 2 * 1000 - heat.throttled_s(device_id, 10.0, 1000)
    return 100 - 50 * math.exp(full_speed_s / 100)


def test_a_board_warms_and_cools_with_its_time_constant() -> None:
    heat = Heat(THERMAL, 2)
    heat.advance(1, 4.0, 100.0)
    assert excess_k(heat, 1) == pytest.approx(40 * (1 - math.exp(-1)))
    heat.advance(1, 0.0, 100.0)
    assert excess_k(heat, 1) == pytest.approx(40 * (1 - math.exp(-1)) * math.exp(-1))
    assert excess_k(heat, 0) == pytest.approx(0, abs=1e-9)


def test_two_spans_are_as_good_as_one() -> None:
    parts, whole = Heat(THERMAL, 1), Heat(THERMAL, 1)
    for duration_s in (30.0, 12.0):
        parts.advance(0, 4.0, duration_s)
    whole.advance(0, 4.0, 42.0)
    assert excess_k(parts, 0) == pytest.approx(excess_k(whole, 0), rel=1e-9)


def test_what_ends_before_the_limit_is_not_slowed_down() -> None:
    assert Heat(THERMAL, 1).throttled_s(0, 10.0, HALF_S - 1) == HALF_S - 1


def test_what_is_left_at_the_limit_takes_twice_as_long() -> None:
    assert Heat(THERMAL, 1).throttled_s(0, 10.0, HALF_S + 30) == pytest.approx(HALF_S + 60)


def test_a_board_at_its_limit_is_slow_from_the_start_and_stays_there() -> None:
    heat = Heat(THERMAL, 1)
    heat.advance(0, 10.0, 1000.0)
    assert excess_k(heat, 0) == pytest.approx(50)
    assert heat.throttled_s(0, 10.0, 30) == pytest.approx(60)


def test_a_board_that_never_gets_that_warm_is_never_slowed_down() -> None:
    assert Heat(THERMAL, 1).throttled_s(0, 5.0, 1e6) == 1e6
