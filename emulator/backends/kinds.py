"""The kinds of backends: what is asked about one before it starts, and where it is imported from when it does.

A backend is a module and a line in :data:`KINDS`. Nothing here imports any of them, so that a configuration can be
checked without torch and Ray.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from emulator.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendKind:
    """What a ``backend.kind`` of the configuration stands for.

    Attributes:
        name: as configurations say it.
        holds: where its hosts run, for listings.
        run: ``module:function`` that trains a run to its end: ``(config, out_dir, observers)``.
        run_batch: the same for many runs side by side: ``(runs, listener, max_parallel, lock)``; empty where runs can
            only go one after another, in this process.
        has_host_processes: whether its hosts are processes of their own, as many as ``backend.hosts`` says; otherwise
            this process is its one host.
        start_s: what it takes on the wall to start and to end, beside loading models and data.
        own_bytes: memory of its own processes and the coordinator's, beside hosts and this process.
        is_live: whether devices are processes that keep to emulated time on the wall.
    """

    name: str
    holds: str
    run: str
    run_batch: str = ""
    has_host_processes: bool
    start_s: float = 0.0
    own_bytes: int = 0
    is_live: bool = False

    @property
    def is_side_by_side(self) -> bool:
        """Whether several runs can be under way at a time."""
        return bool(self.run_batch)

    def load_run(self) -> Callable[..., None]:
        """The function at :attr:`run`; imports what the backend needs."""
        return _load(self.run)

    def load_run_batch(self) -> Callable[..., None]:
        """The function at :attr:`run_batch`; imports what the backend needs."""
        return _load(self.run_batch)


RAY_BYTES = 400 * 2**20
"""What Ray's own processes and the coordinator need beside this one (measured)."""

KINDS: tuple[BackendKind, ...] = (
    BackendKind(
        name="ray",
        holds="host processes on this machine or a cluster",
        run="emulator.backends.ray_run:run_on_ray",
        run_batch="emulator.backends.ray_batch:run_side_by_side",
        has_host_processes=True,
        # Measured: 20 s on a 2-core machine that other work kept busy; half of that is taken for a quiet one.
        start_s=10.0,
        own_bytes=RAY_BYTES,
    ),
    BackendKind(
        name="inline",
        holds="everything in this process",
        run="emulator.backends.inline:run_inline",
        has_host_processes=False,
    ),
    BackendKind(
        name="live",
        holds="a process for every device, which computes and transfers at the pace of its board",
        run="emulator.backends.live:run_live",
        has_host_processes=True,
        start_s=10.0,
        own_bytes=RAY_BYTES,
        is_live=True,
    ),
)


def backend_kind(name: str) -> BackendKind:
    """The backend that configurations call ``name``.

    Raises:
        ConfigError: there is none.
    """
    for kind in KINDS:
        if kind.name == name:
            return kind
    raise ConfigError(f"backend.kind: must be {' or '.join(repr(kind.name) for kind in KINDS)}, got {name!r}")


def _load(path: str) -> Callable[..., None]:
    module, _, name = path.partition(":")
    function: Callable[..., None] = getattr(import_module(module), name)
    return function
