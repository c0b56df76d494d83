"""Starts a composed run on the backend that its configuration names."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from emulator.backends.content import check_content
from emulator.backends.environment import set_environment
from emulator.backends.kinds import backend_kind
from emulator.config import Config
from emulator.observers.base import RunObserver
from emulator.running.compose import build_coordinator, check


def execute(config: Config, out_dir: Path, observers: Sequence[RunObserver] = ()) -> Path:
    """Run ``config`` to its end and write it into ``out_dir``, a new or empty folder; return the folder.

    ``observers`` are told in this process, wherever the run goes on.

    Raises:
        UserError: something in the configuration, the model or the data cannot be used.
    """
    set_environment()
    check(config, out_dir)
    if config.training.enabled:
        if not os.environ.get("RAY_ADDRESS"):  # on a cluster elsewhere the files need not be here
            check_content(config)
        backend_kind(config.backend.kind).load_run()(config, out_dir, observers)
    else:
        # Without training there is nothing for hosts to do, whatever the backend.
        build_coordinator(config, out_dir, None, observers, threading.Event()).run()
    return out_dir
