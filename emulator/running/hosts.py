"""The border between the coordinator and whatever trains: jobs in, updates out, and no clock."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.algorithms.aggregation import Sums, block_sums
from emulator.forms.base import AdapterForm, FrozenWeights, Site
from emulator.records import Arrays, Evaluation, Job, Prepared, Update
from emulator.running.live.devices import LiveDevices


@dataclass(frozen=True, kw_only=True, slots=True)
class HostTiming:
    """What one host did over a span of wall-clock time; goes to the table ``host``."""

    host: str
    phase: str
    wall_s: float
    n_jobs: int
    memory_bytes: int
    prefix_layers: int
    prefix_cache_bytes: int

    @staticmethod
    def since(start_s: float, host: str, phase: str, n_jobs: int = 0, prefix: tuple[int, int] = (0, 0)) -> "HostTiming":
        """What this process did since ``start_s`` on ``time.perf_counter``.

        ``prefix`` is how many layers were not computed again, and the bytes that are kept instead.
        """
        return HostTiming(
            host=host,
            phase=phase,
            wall_s=time.perf_counter() - start_s,
            n_jobs=n_jobs,
            memory_bytes=resident_bytes(),
            prefix_layers=prefix[0],
            prefix_cache_bytes=prefix[1],
        )


def resident_bytes() -> int:
    """Resident memory of this process, 0 where the system does not tell (Linux does)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


OnJobs = Callable[[int, int], None]
"""Called with the number of jobs that are done and the number of all jobs of a call."""


class Backend(ABC):
    """Hosts that train and evaluate. Results do not depend on how many there are."""

    prepared: Prepared
    live: LiveDevices | None = None
    """The devices of a live run, which take their jobs from the testbed."""

    @abstractmethod
    def train(self, task: str, form: AdapterForm, jobs: Sequence[Job], on_jobs: OnJobs) -> list[Update]:
        """Train ``jobs`` with the function at the import path ``task``; updates come in the order of ``jobs``."""

    def add_up(
        self, form: AdapterForm, state: Arrays, updates: Sequence[Update], weights: Sequence[float]
    ) -> Iterable[Sums]:
        """The sums of ``updates`` block by block, of :func:`~emulator.algorithms.aggregation.block_sums`."""
        return block_sums(form, state, updates, weights)

    @abstractmethod
    def evaluate(self, form: AdapterForm, state: Arrays) -> Callable[[], Evaluation]:
        """Begin to evaluate the server ``state`` on the held-out data; calling what comes back waits for the result."""

    @abstractmethod
    def weights(self, sites: Sequence[Site]) -> FrozenWeights:
        """The pre-trained weights of these matrices of the model that is trained."""

    @abstractmethod
    def own_arrays(self, names: Sequence[str]) -> Arrays:
        """Weights of the model that is trained, as the arrays ``names`` of a form that holds them."""

    @abstractmethod
    def export(self, form: AdapterForm, state: Arrays, path: Path) -> None:
        """Write the server ``state`` as a PEFT adapter into the folder ``path``."""

    @abstractmethod
    def timings(self) -> list[HostTiming]:
        """What the hosts did since the last call."""

    @abstractmethod
    def close(self) -> None:
        """End what this backend started."""

    def describe(self) -> Mapping[str, object]:
        """What ``run.json`` says about the backend."""
        return {}
