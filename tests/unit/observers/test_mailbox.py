"""Events that cross processes arrive complete, in order, and only where somebody wants them."""

import pickle
from typing import Any

from emulator.observers.base import Progress, RunEnded, RunObserver
from emulator.observers.mailbox import EVENTS, Mailbox, deliver, wanted
from tests.unit.observers.recording import Failing, Recorder
from tests.unit.observers.rounds_by_hand import closed_round


def progress(jobs_done: int) -> Progress:
    return Progress(rounds_done=0, n_rounds=1, jobs_done=jobs_done, n_jobs=8)


def test_what_is_fetched_is_delivered_once_and_in_order() -> None:
    mailbox, recorder = Mailbox(), Recorder()
    mailbox.round_closed(closed_round(0))
    mailbox.warned("late")
    mailbox.run_ended(RunEnded(status="finished"))

    deliver(pickle.loads(pickle.dumps(mailbox.fetch())), recorder)

    assert recorder.names() == ["round_closed", "warned", "run_ended"]
    assert recorder.told("round_closed") == [closed_round(0)]
    assert mailbox.fetch() == []


def test_of_progress_in_a_row_only_the_newest_is_kept() -> None:
    mailbox = Mailbox()
    for number in (1, 2, 3):
        mailbox.progressed(progress(number))
    mailbox.warned("late")
    mailbox.progressed(progress(4))

    assert mailbox.fetch() == [("progressed", progress(3)), ("warned", "late"), ("progressed", progress(4))]


def test_what_nobody_wants_is_not_kept() -> None:
    mailbox = Mailbox(wanted([Failing(ValueError())]))

    mailbox.progressed(progress(1))
    mailbox.round_closed(closed_round(0))

    assert [event for event, _ in mailbox.fetch()] == ["round_closed"]


def test_an_event_is_wanted_by_who_has_a_method_for_it() -> None:
    class Own(Failing):
        def run_ended(self, ended: RunEnded) -> None: ...

    assert wanted([RunObserver()]) == frozenset()
    assert wanted([Own(ValueError())]) == {"round_closed", "run_ended"}
    assert wanted([Recorder()]) == set(EVENTS)


def test_every_method_of_the_contract_is_an_event() -> None:
    methods: dict[str, Any] = vars(RunObserver)
    assert {name for name, found in methods.items() if callable(found)} == set(EVENTS)
