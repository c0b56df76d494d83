"""Transfers in flight as a fluid: what remains of each, how fast it flows, and when the next one ends.

Every device has one slot, empty while it sends nothing. An empty slot has a rate of 0 and infinitely much left, so that
whole slices can be computed on without asking which slots are in use.
"""

from collections.abc import Callable, Iterator

import numpy as np

from emulator.world.clock import Clock, Event
from emulator.world.network.fair_share import Vector, water_level
from emulator.world.network.transfers import Transfer

TIE_S = 1e-12
"""Transfers whose ends are closer than this end together: equal shares differ in the last bits of their ends."""

_STANDSTILL_BYTES_PER_S = 1e-200
"""Stands in for a rate of 0, by which nothing can be divided: even a single byte takes for ever."""


class Flows:
    """The slots, as vectors of shape ``(n_slots,)``.

    ``cap`` is what the device's own link carries now, in bytes/s, and ``change_s`` when that changes next; ``alone`` is
    the rate that the access point would give if the server had no limit, ``rate`` the one that is in force, since
    ``since_s``, when ``remaining`` bytes were still to come.
    """

    def __init__(self, n_slots: int) -> None:
        self.transfers: list[Transfer | None] = [None] * n_slots
        self.steps: list[Iterator[tuple[float, float]] | None] = [None] * n_slots
        self.remaining: Vector = np.full(n_slots, np.inf)
        self.cap: Vector = np.zeros(n_slots)
        self.alone: Vector = np.zeros(n_slots)
        self.rate: Vector = np.zeros(n_slots)
        self.since_s: Vector = np.zeros(n_slots)
        self.change_s: Vector = np.full(n_slots, np.inf)

    def fill(self, slot: int, n_bytes: float, cap: float, steps: Iterator[tuple[float, float]] | None) -> None:
        """Let ``n_bytes`` flow. Links that change give their ``steps``: pairs of a rate and the time of its end."""
        self.remaining[slot] = n_bytes
        self.steps[slot] = steps
        self.cap[slot], self.change_s[slot] = (cap, np.inf) if steps is None else next(steps)

    def move(self, old: int, new: int) -> None:
        """Let what is in one slot go on in another, an empty one; all that has flowed must have been counted."""
        self.transfers[new], self.steps[new] = self.transfers[old], self.steps[old]
        self.remaining[new], self.change_s[new] = self.remaining[old], self.change_s[old]
        self.cap[new], self.since_s[new] = self.cap[old], self.since_s[old]
        self.clear(old)

    def left_bytes(self, slot: int, now_s: float) -> float:
        """What remains now."""
        return float(self.remaining[slot] - self.rate[slot] * (now_s - self.since_s[slot]))

    def clear(self, slot: int) -> None:
        """Nothing flows here any more."""
        self.transfers[slot] = self.steps[slot] = None
        self.remaining[slot] = self.change_s[slot] = np.inf
        self.cap[slot] = self.alone[slot] = self.rate[slot] = 0.0


class Cell:
    """Neighbouring slots that are served together: those of an access point, or all of them."""

    def __init__(self, flows: Flows, slots: slice, capacity: float, on_wake: Callable[["Cell"], None]) -> None:
        """``on_wake`` is called when a transfer of the cell ends or the rate of one of its links changes."""
        self._flows = flows
        self._first = slots.start
        self._capacity = capacity
        self._on_wake = lambda event: on_wake(self)
        self._remaining, self._since_s = flows.remaining[slots], flows.since_s[slots]
        self._cap, self._alone, self._rate = flows.cap[slots], flows.alone[slots], flows.rate[slots]
        self._change_s = flows.change_s[slots]
        self._left_s: Vector = np.full(len(self._rate), np.inf)
        self._ends_in_s = self._changes_s = np.inf
        self._wake: Event | None = None

    def divide(self) -> None:
        """Divide the cell's own capacity among its links; takes no effect yet."""
        np.minimum(self._cap, water_level(self._cap, self._capacity), out=self._alone)

    def advance(self, now_s: float) -> None:
        """Count what has flowed until now; to be called before any rate changes."""
        self._remaining -= self._rate * (now_s - self._since_s)
        self._since_s.fill(now_s)

    def follow(self) -> None:
        """Put the cell's own division into force."""
        self._rate[:] = self._alone

    def schedule(self, clock: Clock) -> None:
        """Wake up at the next end or change, and not at the one that was expected before."""
        self.rest(clock)
        if not len(self._rate):
            return
        np.divide(self._remaining, np.maximum(self._rate, _STANDSTILL_BYTES_PER_S), out=self._left_s)
        self._ends_in_s = max(float(self._left_s[self._left_s.argmin()]), 0.0)
        ends_s = clock.now_s + self._ends_in_s
        self._changes_s = float(self._change_s[self._change_s.argmin()])
        if self._changes_s < ends_s:
            self._ends_in_s = -np.inf  # nothing ends at the next wake-up
        if (wakes_s := min(ends_s, self._changes_s)) < np.inf:
            self._wake = clock.at(wakes_s)
            self._wake.callbacks.append(self._on_wake)

    def rest(self, clock: Clock) -> None:
        """Do not wake up."""
        if self._wake is not None:
            clock.cancel(self._wake)
            self._wake = None

    def ended(self) -> list[int]:
        """The slots whose transfers end at this wake-up."""
        slots: list[int] = (self._left_s <= self._ends_in_s + TIE_S).nonzero()[0].tolist()
        return [self._first + slot for slot in slots]

    def step_links(self, now_s: float) -> list[int]:
        """Let the links go on to the rate that begins now; gives the slots of those that do."""
        if now_s < self._changes_s:
            return []
        flows = self._flows
        slots = [self._first + slot for slot in (self._change_s <= now_s).nonzero()[0].tolist()]
        for slot in slots:
            steps = flows.steps[slot]
            assert steps is not None
            flows.cap[slot], flows.change_s[slot] = next(steps)
        return slots
