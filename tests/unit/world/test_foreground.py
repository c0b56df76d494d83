"""Programs in the foreground: how much longer computations take, on schedules and at random."""

import math
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.config.testbed import ForegroundConfig
from emulator.errors import ConfigError
from emulator.running.foreground_load import foreground_of
from emulator.seeds import Seeds
from emulator.world.foreground import Foreground, random_load, scheduled_load


def speeds(load: Foreground, device_id: int, n: int) -> list[tuple[float, float]]:
    """The first spans: the share that is left, and until when."""
    return list(islice(load._speeds[device_id].steps(0.0), n))


@pytest.mark.parametrize(
    ("start_s", "duration_s", "takes_s"),
    [
        (0.0, 10.0, 10.0),  # over before the load begins at 20 s
        (15.0, 10.0, 5 + 5 / 0.25),
        (20.0, 2.5, 10.0),
        (45.0, 5.0, 5 + 3.75),  # 1.25 s of work until 50 s, the rest at full speed
        (120.0, 2.5, 10.0),  # in the next period
        (0.0, 77.5, 100.0),  # a whole period: 20 + 30 / 4 + 50
    ],
)
def test_a_computation_slows_down_while_a_scheduled_load_runs(
    start_s: float, duration_s: float, takes_s: float
) -> None:
    load = scheduled_load(2, 0.75, from_s=20.0, until_s=50.0, period_s=100.0)

    assert load.stretched_s(1, start_s, duration_s) == pytest.approx(takes_s, rel=1e-12)


@pytest.mark.parametrize(
    ("from_s", "until_s", "expected"),
    [
        (0.0, 30.0, [(0.5, 30.0), (1.0, 100.0), (0.5, 130.0)]),
        (30.0, 100.0, [(1.0, 30.0), (0.5, 100.0), (1.0, 130.0)]),
        (80.0, 10.0, [(0.5, 10.0), (1.0, 80.0), (0.5, 100.0)]),
        (80.0, 0.0, [(1.0, 80.0), (0.5, 100.0), (1.0, 180.0)]),
        (0.0, 100.0, [(0.5, 100.0), (0.5, 200.0), (0.5, 300.0)]),
    ],
)
def test_a_schedule_may_touch_or_cross_the_ends_of_a_period(
    from_s: float, until_s: float, expected: list[tuple[float, float]]
) -> None:
    load = scheduled_load(1, 0.5, from_s=from_s, until_s=until_s, period_s=100.0)

    assert speeds(load, 0, 3) == expected


def test_a_random_load_is_on_for_its_share_of_the_time_in_spans_of_its_means() -> None:
    n_devices, n_spans = 400, 200
    load = random_load(n_devices, 0.6, 30.0, 10.0, Seeds(0))
    of_device = [speeds(load, device_id, n_spans) for device_id in range(n_devices)]

    starts_on = np.mean([spans[0][0] == 0.4 for spans in of_device])
    lengths_s: dict[float, list[float]] = {0.4: [], 1.0: []}
    for spans in of_device:
        for (_, start_s), (speed, end_s) in pairwise(spans):
            lengths_s[speed].append(end_s - start_s)

    assert starts_on == pytest.approx(0.75, abs=5 * math.sqrt(0.75 * 0.25 / n_devices))
    for speed, mean_s in ((0.4, 30.0), (1.0, 10.0)):  # exponential: the deviation is the mean
        n = len(lengths_s[speed])
        assert np.mean(lengths_s[speed]) == pytest.approx(mean_s, rel=5 / math.sqrt(n))


@given(start_s=st.floats(0, 1000), duration_s=st.floats(0.1, 500))
def test_a_computation_takes_the_integral_of_the_speed_whatever_was_asked_before(
    start_s: float, duration_s: float
) -> None:
    asked, fresh = (random_load(3, 0.5, 20.0, 20.0, Seeds(4)) for _ in range(2))
    asked.stretched_s(2, 5000.0, 10.0)

    takes_s = fresh.stretched_s(2, start_s, duration_s)

    assert asked.stretched_s(2, start_s, duration_s) == takes_s
    assert duration_s <= takes_s <= 2 * duration_s * (1 + 1e-12)
    assert fresh._speeds[2].carried_bytes(start_s, start_s + takes_s) == pytest.approx(duration_s, abs=1e-9)


def test_more_devices_leave_the_load_of_the_others_alone() -> None:
    few, many = random_load(2, 0.5, 3.0, 4.0, Seeds(0)), random_load(5, 0.5, 3.0, 4.0, Seeds(0))

    assert speeds(few, 1, 50) == speeds(many, 1, 50)


def test_nothing_is_taken_unless_a_run_says_so() -> None:
    assert foreground_of(ForegroundConfig(), 3, Seeds(0)) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "on_off"}, "compute_fraction must be given"),
        ({"kind": "on_off", "compute_fraction": 0.5, "mean_on_s": 5.0}, "mean_off_s must be given"),
        (
            {"kind": "on_off", "compute_fraction": 0.5, "mean_on_s": 0.5, "mean_off_s": 5.0},
            "mean_on_s must be at least 1 second, got 0.5",
        ),
        ({"compute_fraction": 0.5}, "compute_fraction is for .* = 'on_off' or 'schedule'; the kind is 'none'"),
        (
            {"kind": "schedule", "compute_fraction": 0.5, "from_s": 1.0, "until_s": 2.0, "mean_on_s": 5.0},
            "mean_on_s is for .* = 'on_off'; the kind is 'schedule', got 5.0",
        ),
        ({"period_s": 5.0}, "period_s is for .* = 'schedule'; the kind is 'none', got 5.0"),
        (
            {"kind": "schedule", "compute_fraction": 0.5, "from_s": 5.0, "until_s": 5.0},
            "from_s and until_s must be two times within a period .*, got 5.0 and 5.0",
        ),
        (
            {"kind": "schedule", "compute_fraction": 0.5, "from_s": 5.0, "until_s": 12.0, "period_s": 10.0},
            "within a period of period_s = 10 s, got 5.0 and 12.0",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        foreground_of(ForegroundConfig(**settings), 3, Seeds(0))
