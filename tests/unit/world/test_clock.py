"""The virtual clock: order, values, failures."""

from typing import Any

import pytest

from emulator.world.clock import Clock, Event, Process


def sleeper(clock: Clock, delays_s: list[float], log: list[tuple[float, str]], name: str) -> Process[str]:
    for delay_s in delays_s:
        yield clock.timeout(delay_s)
        log.append((clock.now_s, name))
    return name


def failing(clock: Clock, delay_s: float, text: str) -> Process[None]:
    yield clock.timeout(delay_s)
    raise ValueError(text)


def test_processes_interleave_by_time_and_ties_keep_the_order_in_which_they_were_scheduled() -> None:
    clock, log = Clock(), []

    def both() -> Process[list[str]]:
        names = yield clock.all_of(
            [clock.process(sleeper(clock, [1.0, 2.0], log, "a")), clock.process(sleeper(clock, [3.0, 1.0], log, "b"))]
        )
        return names

    assert clock.run(both()) == ["a", "b"]
    # At 3 s both are due; a's second delay was scheduled at 1 s, after b's first at 0 s.
    assert log == [(1.0, "a"), (3.0, "b"), (3.0, "a"), (4.0, "b")]
    assert clock.now_s == 4.0


def test_a_timeout_hands_its_value_to_the_process() -> None:
    clock = Clock()

    def reader() -> Process[Any]:
        return (yield clock.timeout(2.5, value="late"))

    assert clock.run(reader()) == "late"


def test_all_of_nothing_happens_at_once() -> None:
    clock = Clock()

    def waiter() -> Process[Any]:
        return (yield clock.all_of([]))

    assert clock.run(waiter()) == []
    assert clock.now_s == 0.0


def test_a_process_can_wait_for_an_event_that_has_already_happened() -> None:
    clock = Clock()

    def waiter() -> Process[Any]:
        early = clock.timeout(1.0, value="early")
        yield clock.timeout(2.0)
        return (yield early), clock.now_s

    assert clock.run(waiter()) == ("early", 2.0)


def test_a_failure_is_raised_in_the_process_that_waits_and_can_be_caught_there() -> None:
    clock = Clock()

    def careful() -> Process[str]:
        try:
            yield clock.process(failing(clock, 1.0, "lost"))
        except ValueError as error:
            return f"{error} at {clock.now_s}"
        return "not reached"

    assert clock.run(careful()) == "lost at 1.0"


def test_a_failure_of_this_moment_is_raised_without_time_going_by() -> None:
    clock = Clock()

    def careful() -> Process[float]:
        yield clock.timeout(2.0)
        with pytest.raises(ValueError, match="gone"):
            yield clock.failure(ValueError("gone"))
        return clock.now_s

    assert clock.run(careful()) == 2.0


def test_all_of_fails_as_soon_as_one_fails() -> None:
    clock = Clock()

    def waiter() -> Process[float]:
        try:
            yield clock.all_of([clock.timeout(5.0), clock.process(failing(clock, 1.0, "x"))])
        except ValueError:
            return clock.now_s
        return -1.0

    assert clock.run(waiter()) == 1.0


def test_a_failure_that_nobody_handles_ends_the_run() -> None:
    clock = Clock()

    def broken() -> Process[None]:
        yield clock.timeout(1.0)
        raise KeyError("nobody listens")

    def careless() -> Process[None]:
        clock.process(broken())
        yield clock.timeout(10.0)

    with pytest.raises(KeyError, match="nobody listens"):
        clock.run(careless())


@pytest.mark.parametrize("delay_s", [-1e-9, float("nan")])
def test_time_never_runs_backwards(delay_s: float) -> None:
    with pytest.raises(ValueError, match="at least 0 s"):
        Clock().timeout(delay_s)
    with pytest.raises(ValueError, match="must not be before"):
        Clock().deadline(delay_s)


def test_a_deadline_comes_after_all_that_is_due_at_its_time_and_what_that_sets_off() -> None:
    clock, log = Clock(), []

    def at_the_deadline() -> Process[None]:
        yield clock.deadline(3.0)
        log.append((clock.now_s, "deadline"))

    def both() -> Process[None]:
        last = clock.process(at_the_deadline())
        yield clock.process(sleeper(clock, [1.0, 2.0, 0.0], log, "a"))
        yield last

    clock.run(both())

    assert log == [(1.0, "a"), (3.0, "a"), (3.0, "a"), (3.0, "deadline")]


def test_an_event_that_fails_before_it_is_due_happens_once_and_then() -> None:
    clock = Clock()

    def careful(event: Event) -> Process[float]:
        with pytest.raises(ValueError, match="lost"):
            yield event
        return clock.now_s

    def cut() -> Process[tuple[float, float]]:
        event = clock.timeout(5.0)
        waiting = clock.process(careful(event))
        yield clock.timeout(2.0)
        clock.fail(event, ValueError("lost"))
        at_s = yield waiting
        yield clock.timeout(10.0)
        return at_s, clock.now_s

    assert clock.run(cut()) == (2.0, 12.0)


def test_an_event_of_no_time_happens_when_it_is_told_to() -> None:
    clock = Clock()

    def waiter(event: Event) -> Process[float]:
        yield event
        return clock.now_s

    def teller() -> Process[float]:
        event = Event()
        waiting = clock.process(waiter(event))
        yield clock.timeout(4.0)
        clock.succeed(event)
        return (yield waiting)

    assert clock.run(teller()) == 4.0


def test_a_process_that_can_never_go_on_is_reported() -> None:
    clock = Clock()

    def stuck() -> Process[None]:
        yield Event()

    with pytest.raises(RuntimeError, match="nothing will cause"):
        clock.run(stuck())


def test_an_event_at_an_absolute_time_happens_at_that_time_to_the_bit() -> None:
    clock = Clock()

    def waiter() -> Process[float]:
        yield clock.timeout(0.1)
        yield clock.at(0.7)
        return clock.now_s

    assert clock.run(waiter()) == 0.7
    with pytest.raises(ValueError, match=r"must not be due before, got 0\.2"):
        clock.at(0.2)


def test_an_event_without_a_time_happens_when_it_is_told_to() -> None:
    clock, door = Clock(), Event()

    def opener() -> Process[None]:
        yield clock.timeout(2.0)
        clock.succeed(door)

    def waiter() -> Process[float]:
        clock.process(opener())
        yield door
        return clock.now_s

    assert clock.run(waiter()) == 2.0


def test_an_event_that_is_told_to_happen_earlier_happens_once() -> None:
    clock, log = Clock(), []
    late = clock.timeout(5.0)
    late.callbacks.append(lambda _: log.append(clock.now_s))

    def hurry() -> Process[None]:
        yield clock.timeout(1.0)
        clock.succeed(late)
        yield clock.timeout(10.0)

    clock.run(hurry())
    assert log == [1.0]


def test_time_does_not_stop_at_a_cancelled_event() -> None:
    clock, log = Clock(), []
    cancelled = clock.timeout(1.0)
    cancelled.callbacks.append(lambda _: log.append("happened"))
    clock.cancel(cancelled)

    def waiter() -> Process[float]:
        try:
            yield clock.process(failing(clock, 3.0, "late"))
        except ValueError:
            return clock.now_s
        return -1.0

    assert (clock.run(waiter()), log) == (3.0, [])


def test_an_event_that_fails_raises_in_whoever_waits_for_it() -> None:
    clock = Clock()

    def waiter() -> Process[str]:
        late = clock.timeout(5.0)

        def breaker() -> Process[None]:
            yield clock.timeout(1.0)
            clock.fail(late, ValueError("broken"))

        clock.process(breaker())
        try:
            yield late
        except ValueError as error:
            return f"{error} at {clock.now_s}"
        return "not reached"

    assert clock.run(waiter()) == "broken at 1.0"
