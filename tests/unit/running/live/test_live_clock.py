"""The live clock: reports happen when they were made, what the world has due in its time, and nothing while held."""

import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest

from emulator.running.interruption import Interrupted
from emulator.running.live.clock import LiveClock
from emulator.running.live.pace import DeviceDied, Done, Pace
from emulator.world.clock import Process


def live_clock(speed: float = 100.0) -> LiveClock:
    return LiveClock(speed, threading.Event())


def reported(wall_s: float, value: str, delay_s: float = 0.0) -> "Future[Done[str]]":
    """What was done at ``wall_s`` and is told after ``delay_s``."""
    report: Future[Done[str]] = Future()
    threading.Timer(delay_s, lambda: report.set_result(Done(wall_s, value))).start()
    return report


def test_pace_maps_emulated_time_to_the_wall_and_back() -> None:
    pace = Pace(wall_s=50.0, now_s=10.0, speed=4.0)

    assert pace.wall_at(18.0) == 52.0
    assert pace.time_at(52.0) == 18.0


def test_a_report_happens_at_the_time_at_which_it_was_made_and_not_when_it_came() -> None:
    clock = live_clock()

    def process() -> Process[tuple[str, float]]:
        value = yield clock.expect(reported(clock.pace.wall_at(3.0), "done", delay_s=0.1))
        return value, clock.now_s

    # It came after 0.1 s of the wall, which are 10 s of emulated time.
    assert clock.run(process()) == ("done", pytest.approx(3.0))


def test_events_of_the_world_wait_for_the_wall() -> None:
    clock, began_s = live_clock(), time.monotonic()

    def process() -> Process[float]:
        yield clock.timeout(5.0)
        return clock.now_s

    assert clock.run(process()) == 5.0
    assert time.monotonic() - began_s >= 0.05


def test_reports_and_events_come_in_the_order_of_their_times() -> None:
    clock, seen = live_clock(), []

    def noting(name: str, event: Any) -> Process[None]:
        yield event
        seen.append(name)

    def process() -> Process[None]:
        wall_at = clock.pace.wall_at
        yield clock.all_of(
            [
                clock.process(noting("report at 8", clock.expect(reported(wall_at(8.0), "")))),
                clock.process(noting("deadline at 6", clock.deadline(6.0))),
                clock.process(noting("report at 4", clock.expect(reported(wall_at(4.0), "")))),
            ]
        )

    clock.run(process())

    assert seen == ["report at 4", "deadline at 6", "report at 8"]


def test_no_time_passes_between_runs_and_who_is_at_work_is_told() -> None:
    clock, told = live_clock(), []
    clock.on_hold, clock.on_go = lambda: told.append("hold"), lambda pace: told.append(f"go on at {pace.now_s:g}")

    def process() -> Process[None]:
        yield clock.timeout(1.0)

    clock.run(process())
    time.sleep(0.05)  # 5 s of emulated time, if it went on
    clock.run(process())

    assert clock.now_s == 2.0
    assert told == ["go on at 0", "hold", "go on at 1", "hold"]


def test_a_device_that_died_is_an_error_in_whoever_waits_for_it() -> None:
    clock = live_clock()
    died: Future[Done[None]] = Future()
    died.set_exception(DeviceDied("gone"))

    def process() -> Process[str]:
        try:
            yield clock.expect(died)
        except DeviceDied as error:
            return str(error)
        return ""

    assert clock.run(process()) == "gone"


def test_a_wait_for_nothing_is_refused() -> None:
    clock = live_clock()

    def process() -> Process[None]:
        expected: Future[Done[None]] = Future()
        expected.set_result(Done(0.0, None))
        yield clock.expect(expected)
        cancelled = clock.timeout(1e9)
        clock.cancel(cancelled)
        yield cancelled

    with pytest.raises(RuntimeError, match="an event that nothing will cause"):
        clock.run(process())


def test_a_run_that_is_asked_to_stop_does() -> None:
    stop = threading.Event()
    clock = LiveClock(1.0, stop)
    threading.Timer(0.02, stop.set).start()

    def process() -> Process[None]:
        yield clock.timeout(1e6)

    with pytest.raises(Interrupted):
        clock.run(process())
