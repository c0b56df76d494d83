"""Power modes: redrawn every so many rounds, from the allowed ones, the same in whatever order rounds are asked for."""

import numpy as np
import pytest

from emulator.seeds import Seeds
from emulator.world.power_modes import ModeChange, PowerModes


def modes_of(n_devices: int = 200, n_modes: int = 4, redraw_rounds: int = 20, seed: int = 0) -> PowerModes:
    return PowerModes(np.full(n_devices, n_modes), redraw_rounds, Seeds(seed))


@pytest.mark.parametrize("redraw_rounds", [1, 3, 20])
def test_modes_are_redrawn_every_so_many_rounds_and_stay_between(redraw_rounds: int) -> None:
    modes = modes_of(redraw_rounds=redraw_rounds)

    for start in range(0, 4 * redraw_rounds, redraw_rounds):
        first, last, next_one = (modes.indices(start + offset) for offset in (0, redraw_rounds - 1, redraw_rounds))
        assert np.array_equal(first, last)
        assert not np.array_equal(last, next_one)


def test_without_redraws_a_device_keeps_its_mode() -> None:
    modes = modes_of(redraw_rounds=0)

    assert np.array_equal(modes.indices(0), modes.indices(10_000))


def test_a_device_is_only_in_modes_that_it_has() -> None:
    n_modes = np.array([1, 2, 8] * 50)
    modes = PowerModes(n_modes, 1, Seeds(0))

    drawn = np.array([modes.indices(round_index) for round_index in range(60)])

    assert drawn.min(axis=0).tolist() == [0] * 150
    # P(a device of 8 modes misses its highest in 60 draws) = (7/8)^60 = 0.03 %, so over 50 of them 1.7 %: look at all.
    assert [drawn[:, n_modes == n].max() for n in (1, 2, 8)] == [0, 1, 7]
    assert (drawn < n_modes).all()


def test_modes_are_equally_likely() -> None:
    drawn = np.concatenate([modes_of(redraw_rounds=1).indices(round_index) for round_index in range(50)])

    # 10,000 draws of 4 modes: standard deviation sqrt(1/4 * 3/4 / 10,000) = 0.0043; five of them.
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert np.abs(shares - 1 / 4).max() < 5 * 0.0043


def test_modes_do_not_depend_on_the_order_in_which_rounds_are_asked_for() -> None:
    forwards, backwards = modes_of(redraw_rounds=1), modes_of(redraw_rounds=1)
    rounds = range(6)
    expected = [forwards.indices(round_index) for round_index in rounds]

    for round_index in reversed(rounds):
        assert np.array_equal(backwards.indices(round_index), expected[round_index])


def test_more_devices_leave_the_modes_of_the_others_alone() -> None:
    assert np.array_equal(modes_of(n_devices=80).indices(40), modes_of(n_devices=200).indices(40)[:80])


def test_another_seed_draws_other_modes() -> None:
    assert not np.array_equal(modes_of(seed=0).indices(0), modes_of(seed=1).indices(0))


def test_a_scheduled_change_goes_before_what_is_drawn_from_its_round_on() -> None:
    changes = [ModeChange({0: 3, 5: 1}, from_round=4), ModeChange({5: 2}, from_round=6)]
    drawn = modes_of(redraw_rounds=1)
    modes = PowerModes(np.full(200, 4), 1, Seeds(0), changes)

    for round_index in range(9):
        expected = drawn.indices(round_index)
        if round_index >= 4:
            expected[[0, 5]] = 3, 1
        if round_index >= 6:
            expected[5] = 2
        assert np.array_equal(modes.indices(round_index), expected)


def test_a_change_by_time_counts_from_the_first_round_that_begins_then() -> None:
    modes = PowerModes(np.full(3, 4), 0, Seeds(0), [ModeChange({2: 3}, from_s=100.0), ModeChange({2: 0}, from_s=200.0)])

    assert [modes.indices(1, start_s)[2] for start_s in (100.0, 199.0, 200.0)] == [3, 3, 0]
    assert np.array_equal(modes.indices(1, 99.9), modes_of(3, redraw_rounds=0).indices(1))


def test_who_is_moved_to_another_mode_has_switched() -> None:
    modes = PowerModes(np.full(3, 4), 0, Seeds(0), [ModeChange({2: 3}, from_s=100.0), ModeChange({2: 0}, from_s=200.0)])

    assert modes.switched(5, start_s=210.0, before_s=150.0) == {2}
    assert modes.switched(5, start_s=190.0, before_s=150.0) == frozenset()
    assert modes.switched(0, start_s=210.0, before_s=0.0) == frozenset()
