"""A live device, as it is in a process of its own: it takes jobs in pieces, trains them at its pace, and sends updates.

Its methods are called from several threads at a time: while it computes it can be held, told to go on, and stopped.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from emulator.records import Update
from emulator.running.live.devices import Computed, Piece, SentPiece, Steps, TrainingOrder
from emulator.running.live.pace import Done, Pace
from emulator.running.live.payloads import packed, part_of, unpacked

OnStep = Callable[[int], None]
"""Called when a local step has been taken, with its number from 0."""
Train = Callable[[TrainingOrder, OnStep], Update]
"""Really trains a job on this device alone."""


class Stopped(Exception):
    """The device was told to give up what it computes."""


class LiveBoard:
    """What one device has and does."""

    def __init__(self, train: Train, wall_s: Callable[[], float] = time.monotonic) -> None:
        self._train = train
        self._wall_s = wall_s
        self._payload = -1
        self._pieces: dict[int, Piece] = {}
        self._order: TrainingOrder | None = None
        self._ready = b""
        self._pace: Pace | None = None
        self._is_stopped = False
        self._changes = threading.Condition()
        self._computes = threading.Lock()

    def warm_up(self, order: TrainingOrder) -> None:
        """Take the first step of ``order`` for nothing."""
        with self._computes:
            self._train(first_steps(order, 1), lambda step: None)

    def receive(self, piece: Piece) -> Done[None]:
        """Take a piece; with the last one, in whatever order they come, the job that they carry is there."""
        with self._changes:
            if piece.payload > self._payload:
                self._payload, self._pieces = piece.payload, {}
            if piece.payload == self._payload:  # and not of one that was broken off
                self._pieces[piece.index] = piece
            if len(self._pieces) == piece.n_pieces:
                pieces = [self._pieces[index] for index in range(piece.n_pieces)]
                contents = [each.data[: each.content_bytes] for each in pieces]
                self._pieces = {}
                if any(contents):
                    self._order, self._ready = unpacked(contents), b""
        return Done(self._wall_s(), None)

    def compute(self, steps: Steps) -> Done[Computed | None]:
        """Take ``steps``, none sooner than at its time; None where the device was stopped on the way."""
        with self._computes:  # what was stopped may have a step to end
            with self._changes:
                self._pace, self._is_stopped = steps.pace, False
            return self._computed(steps)

    def _computed(self, steps: Steps) -> Done[Computed | None]:
        real_s, began_s = 0.0, self._wall_s()

        def on_step(step: int) -> None:
            nonlocal real_s, began_s
            real_s += self._wall_s() - began_s
            self._sleep_until(steps.start_s + steps.duration_s * (step + 1) / max(1, steps.n_steps))
            began_s = self._wall_s()

        try:
            if steps.n_steps and self._order is not None:
                order = self._order if steps.is_whole else first_steps(self._order, steps.n_steps)
                update = self._train(order, on_step)
                if steps.is_whole:
                    self._ready = packed(update)
            real_s += self._wall_s() - began_s
            self._sleep_until(steps.start_s + steps.duration_s)
        except Stopped:
            return Done(self._wall_s(), None)
        return Done(self._wall_s(), Computed(real_s=real_s, has_update=bool(self._ready)))

    def send(self, index: int, n_pieces: int, n_bytes: int) -> Done[SentPiece]:
        """One of ``n_pieces`` of the update that is ready, filled up to ``n_bytes``."""
        content = part_of(self._ready, index, n_pieces)
        return Done(self._wall_s(), SentPiece(content, bytes(max(0, n_bytes - len(content)))))

    def stop(self) -> None:
        """Give up what is computed."""
        with self._changes:
            self._is_stopped = True
            self._changes.notify_all()

    def hold(self) -> None:
        """Emulated time stands still."""
        with self._changes:
            self._pace = None

    def go_on(self, pace: Pace) -> None:
        """It goes on."""
        with self._changes:
            self._pace = pace
            self._changes.notify_all()

    def _sleep_until(self, time_s: float) -> None:
        with self._changes:
            while True:
                if self._is_stopped:
                    raise Stopped
                left_s = None if self._pace is None else self._pace.wall_at(time_s) - self._wall_s()
                if left_s is not None and left_s <= 0:
                    return
                self._changes.wait(left_s)


def first_steps(order: TrainingOrder, n_steps: int) -> TrainingOrder:
    """The first ``n_steps`` of what is asked for."""
    job = replace(order.job, assignment=replace(order.job.assignment, n_steps=n_steps))
    return replace(order, job=job)
