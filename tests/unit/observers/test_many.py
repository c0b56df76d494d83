"""Several observers are told the same; one that raises is left out, and nobody else notices more than a sentence."""

import pytest

from emulator.observers.base import Progress, RunEnded, RunObserver
from emulator.observers.many import Observers
from tests.unit.observers.recording import Failing, Recorder
from tests.unit.observers.rounds_by_hand import closed_round


def test_all_are_told_everything_in_order() -> None:
    first, second = Recorder(), Recorder()
    observers = Observers([first, second])

    observers.round_closed(closed_round(0))
    observers.warned("late")
    observers.run_ended(RunEnded(status="finished"))
    observers.progressed(Progress(rounds_done=1, n_rounds=1))

    assert first.names() == second.names() == ["round_closed", "warned", "run_ended"]
    assert first.progress == second.progress == [Progress(rounds_done=1, n_rounds=1)]
    assert observers.failures == []


@pytest.mark.parametrize("error", [ValueError("no such axis"), SystemExit(3)])
def test_one_that_raises_is_told_nothing_more_and_the_others_hear_of_it_once(error: BaseException) -> None:
    failing, recorder = Failing(error), Recorder()
    observers = Observers([failing, recorder])

    for index in range(3):
        observers.round_closed(closed_round(index))

    assert failing.n_told == 1
    assert recorder.names() == ["warned", "round_closed", "round_closed", "round_closed"]
    assert recorder.told("warned") == observers.failures
    assert "tests.unit.observers.recording:Failing failed in round_closed" in observers.failures[0]
    assert type(error).__name__ in observers.failures[0]


def test_of_two_of_the_same_class_each_fails_by_itself() -> None:
    observers = Observers([Failing(ValueError("a")), Failing(ValueError("b"))])

    observers.round_closed(closed_round(0))

    assert len(observers.failures) == 2


def test_one_that_cannot_hear_of_another_is_left_out_too() -> None:
    class Deaf(RunObserver):
        def warned(self, text: str) -> None:
            raise ValueError("deaf")

    observers = Observers([Failing(ValueError("a")), Deaf()])

    observers.round_closed(closed_round(0))
    observers.warned("nobody is left")

    assert ["Failing" in text or "Deaf" in text for text in observers.failures] == [True, True]


def test_an_interrupt_is_no_failure_of_an_observer() -> None:
    with pytest.raises(KeyboardInterrupt):
        Observers([Failing(KeyboardInterrupt())]).round_closed(closed_round(0))
