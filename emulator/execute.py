"""Starts a composed run on the backend that its configuration names."""

import threading
from pathlib import Path

from emulator.backends.environment import quieten
from emulator.config import Config
from emulator.running.compose import build_coordinator, check
from emulator.running.hosts import Backend
from emulator.running.progress import OnProgress


def execute(config: Config, out_dir: Path, on_progress: OnProgress = lambda progress: None) -> Path:
    """Run ``config`` to its end and write it into ``out_dir``, a new or empty folder; return the folder.

    Raises:
        UserError: something in the configuration, the model or the data cannot be used.
    """
    quieten()
    check(config, out_dir)
    if config.backend.kind == "ray" and config.training.enabled:
        from emulator.backends.ray_run import run_on_ray

        run_on_ray(config, out_dir, on_progress)
    else:
        _run_inline(config, out_dir, on_progress)
    return out_dir


def _run_inline(config: Config, out_dir: Path, on_progress: OnProgress) -> None:
    def start(n_devices: int) -> Backend:
        from emulator.backends.inline import InlineBackend

        return InlineBackend(config, n_devices)

    start_backend = start if config.training.enabled else None
    build_coordinator(config, out_dir, start_backend, on_progress, threading.Event()).run()
