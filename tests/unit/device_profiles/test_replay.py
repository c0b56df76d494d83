"""Replaying a recorded rate: how long transfers take over its steps and its end, and when it changes."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_profiles.link_kinds.replay import RateCurve, RateTrace, Replay


def trace(*rates: float, step_s: float = 1.0) -> RateTrace:
    """Steps of equal length."""
    return RateTrace(
        start_s=step_s * np.arange(len(rates)), bytes_per_s=np.array(rates, float), period_s=step_s * len(rates)
    )


def replay(*rates: float, first_step: int = 0) -> Replay:
    return Replay(RateCurve(trace(*rates)), first_step)


@pytest.mark.parametrize(
    ("start_s", "n_bytes", "duration_s"),
    [
        (0.0, 5, 0.5),
        (0.0, 10, 1.0),
        (0.5, 10, 0.75),  # 5 bytes in the first step's rest, 5 of 20 in the second
        (0.0, 35, 3.5),  # 10 + 20 + 0 in a period, 5 in the next
        (1.5, 10, 0.5),  # the second step ends with the last byte; the third carries nothing
        (2.0, 5, 1.5),  # begins while nothing is carried
        (0.0, 30 * 7, 6 * 3 + 2.0),  # the seventh period's bytes have all come when its second step ends
        (3e6 + 0.5, 10, 0.75),  # a million periods later
        (1.0, 0, 0.0),
    ],
)
def test_a_transfer_lasts_until_the_integral_of_the_rate_reaches_its_bytes(
    start_s: float, n_bytes: int, duration_s: float
) -> None:
    assert replay(10, 20, 0).duration_s(start_s, n_bytes) == pytest.approx(duration_s, abs=1e-9)


def test_a_replay_that_begins_at_a_later_step_is_ahead_by_so_much() -> None:
    assert replay(10, 20, 0, first_step=1).duration_s(0.0, 25) == 1.0 + 1.0 + 0.5


def test_the_steps_from_now_on_tell_each_rate_and_when_it_ends() -> None:
    steps = replay(10, 20, 0, first_step=1).steps(0.5)

    assert list(islice(steps, 5)) == [(20.0, 1.0), (0.0, 2.0), (10.0, 3.0), (20.0, 4.0), (0.0, 5.0)]


@given(
    rates=st.lists(st.floats(0.0, 50.0), min_size=1, max_size=6).filter(lambda rates: max(rates) > 1.0),
    start_s=st.floats(0.0, 50.0),
    n_bytes=st.floats(0.1, 1000.0),
)
def test_what_is_carried_during_a_transfer_is_what_was_sent(rates: list[float], start_s: float, n_bytes: float) -> None:
    replayed = replay(*rates)

    end_s = start_s + replayed.duration_s(start_s, n_bytes)

    # The end is known to some 1e-13 s, at rates of up to 50 bytes/s.
    assert replayed.carried_bytes(start_s, end_s) == pytest.approx(n_bytes, abs=1e-8)


def test_the_rates_of_many_replays_now_are_those_of_the_steps_they_are_in() -> None:
    curve = RateCurve(trace(10, 20, 0))

    assert curve.rates_at(4.25, np.array([0.0, 1.0, 2.0])).tolist() == [20.0, 0.0, 10.0]
