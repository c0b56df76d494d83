"""What a batch of runs is to whoever carries it out: the runs, and whom to tell what becomes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from emulator.backends.content import numeric_settings
from emulator.config import Config
from emulator.observers.base import Progress
from emulator.running.capacity import most_hosts, n_hosts
from emulator.storage.places import Place


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRun:
    """A run of a batch; ``out_dir`` is new when it starts."""

    name: str
    config: Config
    n_devices: int
    out_dir: Place


class Listener(Protocol):
    """Told of every run, in the thread that carries the batch out."""

    def started(self, name: str) -> None:
        """The run is about to start; its folder must be new or empty afterwards."""
        ...

    def progressed(self, name: str, progress: Progress) -> None: ...

    def warned(self, name: str, text: str) -> None:
        """Something that who watches the run should know, in one sentence."""
        ...

    def ended(self, name: str, error: BaseException | None) -> None:
        """The run has ended by itself, or with ``error``; not told of what an interrupt ends."""
        ...


def alike(runs: Sequence[BatchRun]) -> list[list[BatchRun]]:
    """Runs that can share hosts: first those without training, then by what a host reserves, in their order."""

    def reserves(run: BatchRun) -> tuple[bool, int, float]:
        training = run.config.training
        if not training.enabled:
            return False, 0, 0.0
        return True, training.threads_per_host, run.config.backend.gpu_share

    return [list(group) for _, group in groupby(sorted(runs, key=reserves), key=reserves)]


def pool_asks(runs: Sequence[BatchRun]) -> int:
    """How many hosts these runs ask of the pool that they share; 0 where all leave that open."""
    return max(run.config.backend.hosts or 0 for run in runs)


def pool_size(runs: Sequence[BatchRun], free: Mapping[str, float]) -> int:
    """How many hosts the pool of runs that are :func:`alike` has, where so much is ``free``."""
    # More than all runs have stacks would have nothing to do, even if all were under way.
    most = sum(most_hosts(run.n_devices, numeric_settings(run.config).devices_stacked) for run in runs)
    return n_hosts(runs[0].config, free, asked=pool_asks(runs), most=most)


def next_run(keys: Sequence[str], resident: set[str]) -> int:
    """The index of the run to start next: the first whose content, by ``keys``, is ``resident``, else the first.

    So runs of the same seed follow on each other where its data lies, whatever the order of the file.
    """
    return next((index for index, key in enumerate(keys) if key in resident), 0)


def lease_size(n_free_hosts: int, n_to_start: int) -> int:
    """How many of the free hosts a run gets when ``n_to_start`` runs, itself among them, could start now."""
    return max(1, n_free_hosts // max(1, n_to_start))
