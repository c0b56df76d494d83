"""Batteries: levels, deaths and returns against closed forms, alone and in a testbed."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_profiles.records import PowerMode
from emulator.config import AvailabilityConfig
from emulator.errors import ConfigError, UserError
from emulator.records import Status
from emulator.running.inputs import availability_of
from emulator.seeds import Seeds
from emulator.testing.exact_testbed import COMPUTE_W, IDLE_W, exact_testbed
from emulator.world.battery import Battery, Charger
from emulator.world.clock import Process
from emulator.world.testbed import Testbed
from tests.unit.world.test_testbed import FORM, MODEL, run

NEVER = Charger(watts=0.0, start_s=0.0, end_s=0.0, period_s=100.0)
NIGHT = Charger(watts=10.0, start_s=60.0, end_s=90.0, period_s=100.0)


def modes(*idle_w: float) -> list[PowerMode]:
    return [
        PowerMode(
            name="m",
            mode_id=0,
            effective_flop_per_s={"fp32": 1.0},
            memory_bytes_per_s=1.0,
            step_overhead_s=0.0,
            idle_w=each,
            compute_w=4.0,
            transfer_w=2.0,
        )
        for each in idle_w
    ]


@pytest.mark.parametrize(
    ("charger", "now_s", "expected"),
    [
        (NEVER, 5.0, (0.0, math.inf)),
        (NIGHT, 0.0, (0.0, 60.0)),
        (NIGHT, 60.0, (10.0, 90.0)),
        (NIGHT, 1e6 + 90.0, (0.0, 1e6 + 160.0)),
        (Charger(watts=1.0, start_s=80.0, end_s=20.0, period_s=100.0), 90.0, (1.0, 120.0)),
        (Charger(watts=1.0, start_s=80.0, end_s=20.0, period_s=100.0), 0.0, (1.0, 20.0)),
        (Charger(watts=1.0, start_s=0.0, end_s=100.0, period_s=100.0), 7.0, (1.0, math.inf)),
    ],
)
def test_a_charger_follows_its_schedule(charger: Charger, now_s: float, expected: tuple[float, float]) -> None:
    assert charger.at(now_s) == expected


def test_a_battery_lasts_as_long_as_its_charge_over_the_draw() -> None:
    battery = Battery(1, 120.0, NEVER)

    assert battery.goes_off_s(0, 4.0, 1e9) == 30
    assert battery.goes_off_s(0, 4.0, 29.0) == math.inf
    drawn = battery.draw(0, 4.0, 50.0)
    assert [(span.start_s, span.end_s, span.watts) for span in drawn] == [(0, 30, 4), (30, 50, 0)]
    assert battery.level_j(0) == 0


def test_a_charger_fills_what_the_draw_leaves_up_to_the_capacity() -> None:
    battery = Battery(1, 200.0, NIGHT)

    battery.draw(0, 3.0, 60.0)
    assert battery.level_j(0) == 200 - 3 * 60
    battery.draw(0, 3.0, 80.0)
    assert battery.level_j(0) == 20 + (10 - 3) * 20
    battery.draw(0, 3.0, 90.0)
    assert battery.level_j(0) == 200  # 230 at most
    battery.draw(0, 3.0, 100.0)
    assert battery.level_j(0) == 170


def test_a_device_that_is_off_comes_back_when_it_is_charged_to_the_least() -> None:
    battery = Battery(1, 100.0, NIGHT, least_fraction=0.5)
    battery.begin_round(modes(4.0), ())
    battery.draw(0, 4.0, 40.0)  # empty at 25 s

    assert battery.until_s(40.0).tolist() == [-math.inf]
    assert battery.next_s(40.0) == 65  # plugged in at 60 s, 50 J at 10 W
    assert battery.until_s(65.0).tolist() == [math.inf]


def test_a_device_below_the_least_is_not_there_unless_it_is_busy() -> None:
    battery = Battery(2, 100.0, NIGHT, least_fraction=0.5)
    battery.begin_round(modes(1.0, 1.0), {1})

    assert battery.until_s(49.0).tolist() == [math.inf, math.inf]
    assert battery.until_s(51.0).tolist() == [-math.inf, math.inf]
    # 40 J at 60 s, then 9 W more: 50 J after another 10 / 9 s.
    assert battery.next_s(51.0) == pytest.approx(60 + 10 / 9)


def test_nobody_comes_back_where_a_period_brings_too_little() -> None:
    battery = Battery(1, 100.0, Charger(watts=2.0, start_s=0.0, end_s=30.0, period_s=100.0), least_fraction=0.9)
    battery.begin_round(modes(1.0), ())

    assert battery.next_s(20.0) == math.inf


@given(
    st.floats(1e3, 1e4),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 20.0),
    st.lists(st.tuples(st.floats(0.1, 300.0), st.floats(0.0, 15.0)), min_size=1, max_size=20),
)
def test_levels_stay_within_bounds_and_charge_less_draw_accounts_for_them(
    capacity_j: float, start: float, least: float, charge_w: float, parts: list[tuple[float, float]]
) -> None:
    charger = Charger(watts=charge_w, start_s=60.0, end_s=90.0, period_s=100.0)
    battery = Battery(1, capacity_j, charger, start_fraction=start, least_fraction=least)
    now_s = 0.0
    for length_s, watts in parts:
        before_j, begin_s, now_s = battery.level_j(0), now_s, now_s + length_s
        spans = battery.draw(0, watts, now_s)
        drawn_j = sum(span.watts * (span.end_s - span.start_s) for span in spans)
        plugged_s = np.diff([max(0.0, min(t % 100 - 60, 30.0)) + 30 * (t // 100) for t in (begin_s, now_s)])[0]
        assert (spans[0].start_s, spans[-1].end_s) == (begin_s, now_s)
        assert all(a.end_s == b.start_s for a, b in pairwise(spans))
        assert 0 <= battery.level_j(0) <= capacity_j
        # What a full battery cannot take is lost; nothing comes from nowhere.
        assert battery.level_j(0) <= before_j + charge_w * plugged_s - drawn_j + 1e-6 * (1 + capacity_j)


def pause(world: Testbed, length_s: float) -> Process[None]:
    yield world.deadline(length_s)


def test_a_device_whose_battery_is_empty_drops_out_and_draws_nothing_more() -> None:
    # 6 s of work; the other device waits, and lasts longer.
    capacity_j = 4.0 * COMPUTE_W
    world = exact_testbed(
        FORM,
        MODEL,
        step_s=[2.0, 2.0],
        download_bytes_per_s=[100.0] * 2,
        upload_bytes_per_s=[50.0] * 2,
        availability=Battery(2, capacity_j, NEVER),
    )
    opened = world.open_round(0)
    world.clock.run(run(world, down=0))
    assert world.clock.now_s == 4
    assert opened.ledgers[0].status is Status.DROPPED
    world.clock.run(pause(world, 1e4))
    world.close_round()

    assert opened.ledgers[0].energy_j == pytest.approx(capacity_j)
    assert opened.ledgers[1].energy_j == pytest.approx(capacity_j)
    rows = [row for row, device_id in enumerate(opened.activities.device_id) if device_id == 1]
    assert [opened.activities.end_s[row] for row in rows] == pytest.approx([capacity_j / IDLE_W, 1e4 + 4])
    assert opened.activities.energy_j[rows[-1]] == 0
    with pytest.raises(UserError, match="no device can be reached any more"):
        world.open_round(1)


def test_a_round_waits_for_the_charger_and_whoever_it_brings_back_can_work() -> None:
    charger = Charger(watts=10.0 + IDLE_W, start_s=1000.0, end_s=2000.0, period_s=5000.0)
    world = exact_testbed(
        FORM,
        MODEL,
        step_s=[2.0],
        download_bytes_per_s=[100.0],
        upload_bytes_per_s=[50.0],
        availability=Battery(1, 1000.0, charger, start_fraction=0.0),
    )
    opened = world.open_round(0)
    world.clock.run(run(world, down=0))
    world.close_round()

    # Off, it takes 1 % of 1000 J at the charger's full power.
    back_s = 1000 + 10 / (10 + IDLE_W)
    assert opened.ledgers[0].status is Status.OK
    assert opened.ledgers[0].forward_s == pytest.approx(6)
    assert opened.ledgers[0].waiting_s == pytest.approx(back_s)


def test_the_settings_make_a_battery_and_wrong_ones_are_refused() -> None:
    made = availability_of(
        AvailabilityConfig(kind="battery", battery_capacity_j=5000.0, battery_start_fraction=0.5), 2, Seeds(0)
    )
    assert isinstance(made, Battery)
    assert made.level_j(1) == 2500
    with pytest.raises(ConfigError, match=r"battery_capacity_j must be at least 1000 joules, got 50\.0"):
        availability_of(AvailabilityConfig(kind="battery", battery_capacity_j=50.0), 2, Seeds(0))
    with pytest.raises(ConfigError, match="battery_capacity_j must be given"):
        availability_of(AvailabilityConfig(kind="battery"), 2, Seeds(0))
    with pytest.raises(
        ConfigError, match=r"must lie within a period of plugged_period_s = 86400 s, got 0.0 and 90000.0"
    ):
        availability_of(
            AvailabilityConfig(kind="battery", battery_capacity_j=5000.0, plugged_until_s=90000.0), 2, Seeds(0)
        )
