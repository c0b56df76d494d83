"""Starts a composed run on the backend that its configuration names."""

import os
import threading
from pathlib import Path

from emulator.backends.content import check_content
from emulator.backends.environment import set_environment
from emulator.backends.kinds import backend_kind
from emulator.config import Config
from emulator.running.compose import build_coordinator, check
from emulator.running.progress import OnProgress


def execute(config: Config, out_dir: Path, on_progress: OnProgress = lambda progress: None) -> Path:
    """Run ``config`` to its end and write it into ``out_dir``, a new or empty folder; return the folder.

    Raises:
        UserError: something in the configuration, the model or the data cannot be used.
    """
    set_environment()
    check(config, out_dir)
    if config.training.enabled:
        if not os.environ.get("RAY_ADDRESS"):  # on a cluster elsewhere the files need not be here
            check_content(config)
        backend_kind(config.backend.kind).load_run()(config, out_dir, on_progress)
    else:
        # Without training there is nothing for hosts to do, whatever the backend.
        build_coordinator(config, out_dir, None, on_progress, threading.Event()).run()
    return out_dir
