"""A round is opened, shown, planned and played, and stays open until it is closed."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from emulator.policy.checked import CheckedPolicy
from emulator.policy.rounds import play_round
from emulator.records import Arrays, Status
from emulator.testing import exact_testbed, tiny_model
from emulator.world.testbed import Testbed
from policies.fedlora import FedLora

MODEL = tiny_model()
POLICY = FedLora(rank=2)
FORM = POLICY.form(MODEL)
STATE: Arrays = {"w": np.zeros(1, np.float32)}


def two_devices() -> Testbed:
    """Steps of 1 and of 3 s; 100 bytes/s in both directions."""
    return exact_testbed(
        FORM, MODEL, step_s=[1.0, 3.0], download_bytes_per_s=[100.0] * 2, upload_bytes_per_s=[100.0] * 2
    )


def test_a_played_round_is_still_open_and_knows_its_plan() -> None:
    testbed = two_devices()

    played = play_round(testbed, CheckedPolicy(POLICY, FORM), 4, STATE, train=None)

    assert testbed.round is played.opened
    assert (played.opened.round_index, played.view.round_index) == (4, 4)
    assert (list(played.opened.plan.assignments), played.opened.available) == ([0, 1], (0, 1))
    assert (played.before, played.after) == (STATE, STATE)  # nothing was trained


def test_a_round_ends_when_it_is_closed_and_not_before() -> None:
    testbed = two_devices()
    opened = play_round(testbed, CheckedPolicy(POLICY, FORM), 0, STATE, train=None).opened

    assert opened.ledgers[0].waiting_s == 0.0
    report = testbed.close_round()

    # Both move the same bytes; with one local step, device 0 is done 2 s before device 1.
    assert opened.ledgers[0].waiting_s == pytest.approx(2.0)
    assert [seen.status for seen in report.devices.values()] == [Status.OK] * 2


def test_planning_and_playing_are_told_apart() -> None:
    within: list[str] = []

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        within.append(f"{part} begins")
        yield
        within.append(f"{part} ends")

    play_round(two_devices(), CheckedPolicy(POLICY, FORM), 0, STATE, None, timed)

    assert within == ["plan begins", "plan ends", "play begins", "play ends"]
