"""What the boards of a run have trained and not sent yet: the memory of error feedback, by device."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from emulator.records import Arrays, Job, Update
from emulator.world.open_round import Train


class Unsent:
    """What each device keeps of its earlier uploads, from the job that it has trained last; empty without feedback."""

    def __init__(self, *, is_kept: bool) -> None:
        self._is_kept = is_kept
        self._by_device: dict[int, Arrays] = {}

    def train(self, train: Train, jobs: Sequence[Job]) -> Sequence[Update]:
        """Train ``jobs``, those of one device one after another: each goes on with what the one before it has left.

        Updates come in the order of ``jobs``.
        """
        if not self._is_kept:
            return train(jobs)
        turns: dict[int, list[int]] = {}
        n_before: Counter[int] = Counter()
        for place, job in enumerate(jobs):
            turns.setdefault(n_before[job.device_id], []).append(place)
            n_before[job.device_id] += 1
        updates: dict[int, Update] = {}
        for places in turns.values():
            trained = train([self.given(jobs[place]) for place in places])
            updates |= {place: self.taken(update) for place, update in zip(places, trained, strict=True)}
        return [updates[place] for place in range(len(jobs))]

    def given(self, job: Job) -> Job:
        """``job`` with what its device has left."""
        return replace(job, unsent=self._by_device.get(job.device_id, {})) if self._is_kept else job

    def taken(self, update: Update) -> Update:
        """``update`` without what its device keeps, which is kept for it here."""
        if not self._is_kept:
            return update
        self._by_device[update.device_id] = update.unsent
        return replace(update, unsent={})

    def memory(self) -> Mapping[int, Arrays]:
        """All of it, for a checkpoint."""
        return dict(self._by_device)

    def recall(self, memory: Mapping[int, Arrays]) -> None:
        """Go on with what :meth:`memory` gave."""
        self._by_device = dict(memory)
