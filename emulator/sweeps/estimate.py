"""Looks at a sweep before it is started: how long it will take here, what memory it needs, which runs will not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from emulator.backends.batch import BatchRun, alike, pool_size
from emulator.backends.content import content_key
from emulator.backends.kinds import BackendKind, backend_kind
from emulator.launch.preflight import Check, Preflight, examine
from emulator.results.sweep_folder import run_dir
from emulator.running.capacity import HOST_BYTES, available_bytes, free_here, n_cores, n_gpus, weights_bytes, with_gpus
from emulator.storage.places import Place
from emulator.sweeps.expansion import SEED, PlannedRun, Sweep
from emulator.sweeps.folder import as_batch, finished_runs

COORDINATOR_BYTES = 200 * 2**20
"""An estimate of what the process of a run takes beside its hosts: numpy, pyarrow and Ray loaded, 80 devices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepEstimate:
    """What is expected of the runs that are left.

    Attributes:
        finished: names of the runs that are complete.
        wall_s: by name, what each of the others takes alone on all of this machine, without loading.
        start_s: what backends, and loading models and data take.
        n_parallel: how many runs are under way at a time.
        n_hosts: of the pool; 0 where nothing is trained.
        needed_bytes: memory of all processes.
        free_bytes: what this machine has, None where it does not tell.
        problems: by name of the first run of a kind what will not fit.
    """

    finished: tuple[str, ...]
    wall_s: Mapping[str, float]
    start_s: float
    n_parallel: int
    n_hosts: int
    needed_bytes: int
    free_bytes: int | None
    problems: Mapping[str, Sequence[Check]]

    @property
    def total_s(self) -> float:
        return self.start_s + sum(self.wall_s.values())

    @property
    def will_fit(self) -> bool:
        return not self.problems and (self.free_bytes is None or self.needed_bytes <= self.free_bytes)


def estimate(sweep: Sweep, sweep_dir: Place, max_parallel: int) -> SweepEstimate:
    """Examine one run of each kind, that is, of those that differ in nothing but the seed. Nothing is written.

    Raises:
        UserError: the folder or something in a run cannot be used.
    """
    finished = finished_runs(sweep, sweep_dir)
    left = [run for run in sweep.runs if run.name not in finished]
    batch = as_batch(left, sweep_dir)
    n_devices = {run.name: run.n_devices for run in batch}
    n_hosts = largest_pool(batch)
    n_parallel = _n_parallel(left, n_hosts, max_parallel)
    wall_s: dict[str, float] = {}
    load_s: dict[str, float] = {}
    problems: dict[str, Sequence[Check]] = {}
    ordered = sorted(left, key=_kind)
    for _, group in groupby(ordered, key=_kind):
        alike = list(group)
        found = examine(alike[0].config, run_dir(sweep_dir, alike[0].name))
        # Half-made folders are replaced.
        if failing := [check for check in found.checks if not check.is_fine and check.name != "output folder"]:
            problems[alike[0].name] = failing
        for run in alike:
            wall_s[run.name] = _alone_s(run, found, n_parallel)
            load_s[content_key(run.config, n_devices[run.name])] = _load_s(run, found) / max(1, n_hosts)
    backends = {_backend(run).name: _backend(run) for run in left}
    return SweepEstimate(
        finished=tuple(finished),
        wall_s={run.name: wall_s[run.name] for run in left},
        start_s=sum(load_s.values()) + sum(backend.start_s for backend in backends.values()),
        n_parallel=n_parallel,
        n_hosts=n_hosts,
        needed_bytes=_needed_bytes(left, n_hosts, n_parallel),
        free_bytes=available_bytes(),
        problems=problems,
    )


def largest_pool(runs: Sequence[BatchRun]) -> int:
    """Hosts of the largest pool that these runs have on this machine; 0 where none trains in host processes."""
    hosted = [
        replace(run, config=with_gpus(run.config, n_gpus()))
        for run in runs
        if run.config.training.enabled and _backend(run).has_host_processes
    ]
    return max((pool_size(group, free_here(_backend(group[0]).own_bytes)) for group in alike(hosted)), default=0)


def _kind(run: PlannedRun) -> str:
    return run.config.model_copy(update={SEED: 0}).model_dump_json()


def _backend(run: PlannedRun | BatchRun) -> BackendKind:
    return backend_kind(run.config.backend.kind)


def _alone_s(run: PlannedRun, found: Preflight, n_parallel: int) -> float:
    """What a run adds to the whole. Hosts do not idle while runs wait: training adds what it takes on all of them."""
    if found.wall is None:
        return 0.0
    rounds_s = found.wall.n_rounds * found.wall.round_s
    is_side_by_side = not run.config.training.enabled and _backend(run).is_side_by_side
    return rounds_s / n_parallel if is_side_by_side else rounds_s


def _load_s(run: PlannedRun, found: Preflight) -> float:
    if found.wall is None or not run.config.training.enabled:
        return 0.0
    return found.wall.start_s - _backend(run).start_s


def _n_parallel(runs: Sequence[PlannedRun], n_hosts: int, max_parallel: int) -> int:
    if not runs or not any(_backend(run).is_side_by_side for run in runs):
        return 1
    return max(1, min(max_parallel or n_hosts or n_cores(), n_hosts or n_cores(), len(runs)))


def _needed_bytes(runs: Sequence[PlannedRun], n_hosts: int, n_parallel: int) -> int:
    models = {run.config.model.train: run.config for run in runs if run.config.training.enabled}
    weights = sum(map(weights_bytes, models.values()))
    own_bytes = max((_backend(run).own_bytes for run in runs), default=0)
    return own_bytes + n_hosts * HOST_BYTES + n_parallel * COORDINATOR_BYTES + weights
