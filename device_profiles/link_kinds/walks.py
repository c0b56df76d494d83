"""Devices that go from one access point to the next: where each is, what it gets there, and when it goes on."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device_profiles.link_kinds.base import Walk
from device_profiles.link_kinds.replay import ChangingRate
from device_profiles.tables import LARGEST, ProfileError
from device_profiles.text_files import FileError, lines_of, shortened

LEAST_VISIT_S = 1e-3
"""No visit that is drawn is shorter, so that times ascend however late it is."""
MOST_ROWS = 1_000_000

Route = Iterator[tuple[float, int]]
"""Visits: when each begins, in seconds, and the number of its access point. Where it ends, the last visit does not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """An access point.

    At each visit a device has a rate of its own between the two bounds. ``shared_bytes_per_s`` is what the point
    carries for all who are there, down and up together.
    """

    name: str
    min_bytes_per_s: float
    max_bytes_per_s: float
    shared_bytes_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RecordedWalk:
    """A walk as recorded: ``start_s`` ascends from 0, one for each visit, to the point of the number in ``points``.

    After ``period_s`` it begins anew; where that is infinite, its last visit goes on for ever.
    """

    start_s: tuple[float, ...]
    points: tuple[int, ...]
    period_s: float

    def route(self) -> Route:
        """The visits from time 0 on."""
        n_periods = 0
        while True:
            for start_s, point in zip(self.start_s, self.points, strict=True):
                yield n_periods * self.period_s + start_s if n_periods else start_s, point
            # Who stays at one point is never handed over, however often the walk begins anew.
            if math.isinf(self.period_s) or len(set(self.points)) == 1:
                return
            n_periods += 1


def random_route(n_points: int, mean_dwell_s: float, rng: np.random.Generator) -> Route:
    """Visits of exponentially distributed lengths; each next point is any of the others, as likely as another."""
    start_s, point = 0.0, int(rng.integers(n_points))
    while True:
        yield start_s, point
        start_s += max(float(rng.exponential(mean_dwell_s)), LEAST_VISIT_S)
        point = (point + 1 + int(rng.integers(n_points - 1))) % n_points


class Visits(Walk):
    """One device's visits, made as far as they are asked for, and kept.

    Visit ``k`` begins at ``start_s[k]``, and has a link from ``linked_s[k]`` on, at ``bytes_per_s[k]``, until the next
    one begins. ``rng`` draws the gap of a hand-over, uniform in ``gap_s``, and the rate of a visit.
    """

    def __init__(
        self, points: Sequence[Point], route: Route, gap_s: tuple[float, float], rng: np.random.Generator
    ) -> None:
        self.n_points = len(points)
        self._points = points
        self._route = route
        self._gap_s = gap_s
        self._rng = rng
        self._start_s: list[float] = []
        self._linked_s: list[float] = []
        self._point: list[int] = []
        self._bytes_per_s: list[float] = []
        self._extend()

    def point_at(self, now_s: float) -> int:
        return self._point[self._number_at(now_s)]

    def rate_at(self, now_s: float) -> float:
        """The rate now, in bytes/s; 0 in the gap of a hand-over."""
        number = self._number_at(now_s)
        return self._bytes_per_s[number] if now_s >= self._linked_s[number] else 0.0

    def steps(self, now_s: float) -> Iterator[tuple[float, float]]:
        """Rates and the times at which they end, from now on, as :class:`ChangingRate` has them."""
        number = self._number_at(now_s)
        while True:
            end_s = self._end_s(number)
            linked_s = min(self._linked_s[number], end_s)
            if now_s < linked_s:
                yield 0.0, linked_s
            if linked_s < end_s:
                yield self._bytes_per_s[number], end_s
            if math.isinf(end_s):
                return
            number, now_s = number + 1, end_s

    def _number_at(self, now_s: float) -> int:
        while self._start_s[-1] <= now_s:
            self._extend()
        return bisect_right(self._start_s, now_s) - 1

    def _end_s(self, number: int) -> float:
        if number + 1 == len(self._start_s):
            self._extend()
        return self._start_s[number + 1]

    def _extend(self) -> None:
        """Make the next visit to another point; without one, it begins at the end of time."""
        last = self._point[-1] if self._point else None
        start_s, point = next((visit for visit in self._route if visit[1] != last), (math.inf, last))
        assert point is not None
        low, high = self._points[point].min_bytes_per_s, self._points[point].max_bytes_per_s
        gap_s = 0.0 if last is None else self._rng.uniform(*self._gap_s)
        self._start_s.append(start_s)
        self._linked_s.append(start_s + gap_s)
        self._point.append(point)
        self._bytes_per_s.append(low + (high - low) * float(self._rng.random()))


class RoamingRate(ChangingRate):
    """The rate of a device that goes from point to point; the same down and up."""

    def __init__(self, visits: Visits) -> None:
        self._visits = visits

    def steps(self, now_s: float) -> Iterator[tuple[float, float]]:
        return self._visits.steps(now_s)


def read_walks(path: Path, points: Sequence[str], period_s: float | None) -> tuple[RecordedWalk, ...]:
    """Walks from text of three columns: the number of who walks, seconds, and the name of the point gone to then.

    Empty lines and lines that begin with ``#`` do not count. Before its first row, who walks is where that puts it.

    Raises:
        ProfileError: the file cannot be read, a line is something else, or the times of one who walks do not ascend, or
            reach ``period_s``.
    """
    rows: dict[int, list[tuple[float, int]]] = {}
    try:
        for number, line in lines_of(path, MOST_ROWS):
            words = line.replace(",", " ").split()
            if not words or words[0].startswith("#"):
                continue
            walker, time_s, point = _row(path, number, line, words, points)
            walk = rows.setdefault(walker, [])
            if walk and time_s <= walk[-1][0]:
                got = f"{time_s!r} after {walk[-1][0]!r}"
                raise ProfileError(f"{path.name}: line {number}: the times of {walker} must ascend, got {got}")
            if period_s is not None and time_s >= period_s:
                raise ProfileError(
                    f"{path.name}: line {number}: must be before trace_period_s, {period_s!r}, got {time_s!r}"
                )
            walk.append((time_s, point))
    except FileError as error:
        raise ProfileError(f"{str(path)!r}: {error}") from None
    if not rows:
        raise ProfileError(f"{path.name}: must have at least one line of who walks, seconds and an access point")
    return tuple(
        RecordedWalk(
            start_s=(0.0, *(time_s for time_s, _ in walk[1:])),
            points=tuple(point for _, point in walk),
            period_s=math.inf if period_s is None else period_s,
        )
        for _, walk in sorted(rows.items())
    )


def _row(path: Path, number: int, line: str, words: Sequence[str], points: Sequence[str]) -> tuple[int, float, int]:
    try:
        walker, time_s, name = int(words[0]), float(words[1]), " ".join(words[2:])
    except (ValueError, IndexError):
        walker, time_s, name = -1, -1.0, ""
    if walker < 0 or not 0 <= time_s <= LARGEST or not name:
        raise ProfileError(
            f"{path.name}: line {number} must be a number from 0 on, seconds and an access point, got {shortened(line)}"
        )
    if name not in points:
        known = shortened(list(points))
        raise ProfileError(f"{path.name}: line {number}: the link's points are {known}, got {shortened(name)}")
    return walker, time_s, points.index(name)
