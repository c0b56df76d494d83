"""The paced clock, by a wall that the test moves: when it waits, what it makes up for, when it says that it is late."""

import pytest

from emulator.running.interruption import Interrupted
from emulator.running.pace import PacedClock
from emulator.world.clock import Clock, Process


class Wall:
    """A wall clock that stands still unless somebody waits or works; and the signal that somebody waits for."""

    def __init__(self, interrupted_at_s: float = float("inf")) -> None:
        self.now_s = 1000.0
        self.waits_s: list[float] = []
        self._interrupted_at_s = interrupted_at_s

    def __call__(self) -> float:
        return self.now_s

    def is_set(self) -> bool:
        return self.now_s >= self._interrupted_at_s

    def wait(self, timeout: float) -> bool:
        self.waits_s.append(timeout)
        self.now_s = min(self.now_s + timeout, self._interrupted_at_s)
        return self.is_set()


def round_of(clock: Clock, wall: Wall, length_s: float, training_s: float = 0.0) -> Process[float]:
    """Two events, then training on the wall; gives how long the wall has run when its timeline ends."""
    yield clock.timeout(length_s / 2)
    yield clock.timeout(length_s / 2)
    played_s = wall.now_s - 1000
    wall.now_s += training_s
    return played_s


def paced(factor: float, wall: Wall) -> tuple[PacedClock, list[str]]:
    warnings: list[str] = []
    return PacedClock(factor, wall, warnings.append, wall), warnings


@pytest.mark.parametrize("factor", [0.5, 1.0, 10.0])
def test_the_wall_runs_emulated_time_over_the_factor(factor: float) -> None:
    wall = Wall()
    clock, warnings = paced(factor, wall)

    assert [clock.run(round_of(clock, wall, 20.0)) for _ in range(3)] == pytest.approx(
        [20 / factor, 40 / factor, 60 / factor]
    )
    assert (clock.now_s, warnings) == (60.0, [])


def test_nothing_waits_longer_than_for_its_own_event() -> None:
    wall = Wall()
    clock, _ = paced(2.0, wall)

    clock.run(round_of(clock, wall, 20.0))

    assert wall.waits_s == [5.0, 5.0]


def test_what_training_took_is_made_up_for_in_the_next_round() -> None:
    wall = Wall()
    clock, warnings = paced(1.0, wall)

    assert [clock.run(round_of(clock, wall, 20.0, training_s=15.0)) for _ in range(3)] == [20.0, 40.0, 60.0]
    assert warnings == []


def test_a_host_that_is_too_slow_is_mentioned_once_and_not_waited_for() -> None:
    wall = Wall()
    clock, warnings = paced(1.0, wall)

    assert [clock.run(round_of(clock, wall, 20.0, training_s=25.0)) for _ in range(4)] == [20.0, 45.0, 70.0, 95.0]
    # Late by 5 s at the end of the second timeline.
    assert warnings == [
        "this machine is too slow for pace = 'realtime(1)': at 40 s of emulated time the run is 5.0 s late and goes on "
        "as fast as it can; lower the factor to keep pace (results are the same at any pace)"
    ]


def test_a_host_that_was_too_slow_for_a_while_catches_up() -> None:
    wall = Wall()
    clock, warnings = paced(1.0, wall)

    played_s = [clock.run(round_of(clock, wall, 20.0, training_s)) for training_s in (25.0, 5.0, 5.0, 5.0)]

    assert played_s == [20.0, 45.0, 60.0, 80.0]
    assert len(warnings) == 1


def test_a_little_late_is_in_time() -> None:
    wall = Wall()
    clock, warnings = paced(1.0, wall)

    # 0.05 s late at the end of each timeline: below a tenth of a second, and far below 2 % of the time that has passed.
    for _ in range(3):
        clock.run(round_of(clock, wall, 20.0, training_s=20.05))

    assert warnings == []


def test_a_wait_ends_when_the_run_is_asked_to_stop() -> None:
    wall = Wall(interrupted_at_s=1007.0)
    clock, _ = paced(1.0, wall)

    with pytest.raises(Interrupted):
        clock.run(round_of(clock, wall, 20.0))
    assert wall.now_s == 1007.0


def test_what_happens_and_when_is_that_of_the_virtual_clock() -> None:
    def log_of(clock: Clock) -> list[tuple[float, str]]:
        log: list[tuple[float, str]] = []

        def sleeper(name: str, delay_s: float) -> Process[None]:
            for _ in range(5):
                yield clock.timeout(delay_s)
                log.append((clock.now_s, name))

        def all_of_them() -> Process[None]:
            yield clock.all_of([clock.process(sleeper(name, 0.1 * (len(name) + 1))) for name in ("a", "bb", "ccc")])

        clock.run(all_of_them())
        return log

    assert log_of(paced(3.0, Wall())[0]) == log_of(Clock())
