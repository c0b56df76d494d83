"""Lags: sums by device, what goes to the table of wall times, and the sentence about who is behind."""

import pytest

from emulator.records import ActivityKind
from emulator.running.live.lag import Lags


def behind() -> Lags:
    """At a speed of 10, device 1 computes for 30 s of 20, of which 2.5 s of the wall really; device 0 is in time."""
    lags = Lags(10.0)
    lags.note(0, ActivityKind.DOWNLOAD, due_s=5.0, spent_s=5.0)
    lags.note(0, ActivityKind.COMPUTE, due_s=20.0, spent_s=20.1, real_s=0.5)
    lags.note(1, ActivityKind.COMPUTE, due_s=20.0, spent_s=30.0, real_s=2.5)
    return lags


def test_phases_are_seconds_of_the_wall() -> None:
    phases = behind().of_round[0].phases

    assert phases == pytest.approx({"download": 0.5, "compute": 2.01, "train": 0.5, "lag": 0.01})


def test_the_latest_device_is_named_with_how_late_it_was_and_what_its_computation_would_fit_in() -> None:
    lags = behind()

    assert lags.worst_fraction() == pytest.approx(0.5)
    # 20 s of emulated time took 2.5 s of the wall.
    assert lags.complaint(4) == (
        "this machine does not keep the pace of 10 emulated seconds per second: in round 4 1 of 2 devices were behind, "
        "the most device 1, by 1.00 s of the wall in 2.00 s (50%); its computation alone would fit at a speed of 8"
    )


def test_who_keeps_the_pace_is_not_late() -> None:
    lags = Lags(10.0)
    lags.note(0, ActivityKind.COMPUTE, due_s=20.0, spent_s=20.1, real_s=0.5)

    assert lags.worst_fraction() == 0.0


def test_what_was_taken_is_not_taken_again() -> None:
    lags = behind()

    assert list(lags.take()) == [0, 1]
    assert lags.take() == {}
