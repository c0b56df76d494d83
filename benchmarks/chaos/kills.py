"""What is killed and when: both follow from a seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.chaos.works import WORKS, Work

T = TypeVar("T")

WHAT = ("host", "coordinator", "raylet", "driver", "disk")
"""All but the last one are processes and get SIGKILL; the disk of the results is filled, and freed after a while."""
LEAST_KILLS, MOST_KILLS = 2, 4
"""Of one work."""
MOST_DELAY_S = 2.0
"""The longest delay after a step was told."""
MOST_START_S = 15.0
"""The longest delay after the start of a command: so long Ray and the hosts may take to come up."""
FULL_S = (2.0, 8.0)
"""So long a disk stays full, at least and at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """One blow.

    Attributes:
        what: one of :data:`WHAT`.
        n_steps: it comes after so many steps of the work,
        delay: and then later by this share of the longest delay.
        pick: of those that it may hit, as a fraction of their number.
        full_s: how long a disk stays full.
    """

    what: str
    n_steps: int
    delay: float
    pick: float
    full_s: float


def drawn(seed: int) -> Iterator[tuple[Work, Sequence[Kill]]]:
    """Works without end, with the blows that each gets, in the order of their steps."""
    stream = random.Random(seed)
    kinds = _shuffled_for_ever(WHAT, stream)
    for work in _shuffled_for_ever(WORKS, stream):
        kills = [_kill(next(kinds), work, stream) for _ in range(stream.randint(LEAST_KILLS, MOST_KILLS))]
        yield work, sorted(kills, key=lambda kill: kill.n_steps)


def _kill(what: str, work: Work, stream: random.Random) -> Kill:
    return Kill(
        what=what,
        n_steps=stream.randrange(work.n_steps),
        delay=stream.random(),
        pick=stream.random(),
        full_s=stream.uniform(*FULL_S),
    )


def _shuffled_for_ever(each: Sequence[T], stream: random.Random) -> Iterator[T]:
    """All of them in random order, again and again, so that none is left out for long."""
    while True:
        yield from stream.sample(each, len(each))
