"""Starts a composed run on the backend that its configuration names."""

import json
import threading
from collections.abc import Sequence

from emulator.backends.content import check_content
from emulator.backends.environment import set_environment
from emulator.backends.kinds import backend_kind
from emulator.backends.locks import owned
from emulator.config import Config
from emulator.errors import UserError
from emulator.observers.base import RunObserver
from emulator.observers.many import Observers
from emulator.results.info import read_info
from emulator.results.writer import INFO_FILE
from emulator.running.compose import build_coordinator, check, check_settings
from emulator.storage.places import Place


def execute(config: Config, out_dir: Place, observers: Sequence[RunObserver] = (), *, resumes: bool = False) -> Place:
    """Run ``config`` to its end and write it into ``out_dir``; return the folder.

    The folder is new or empty; with ``resumes`` it holds the run, which goes on from its last checkpoint and ends with
    the tables of one that was never disturbed.

    ``observers`` are told in this process, wherever the run goes on.

    Raises:
        UserError: something in the configuration, the model or the data cannot be used.
    """
    set_environment()
    if resumes:
        check_settings(config)
    else:
        check(config, out_dir)
    with owned(out_dir, Observers(observers).warned):
        _carry_out(config, out_dir, observers)
    return out_dir


def _carry_out(config: Config, out_dir: Place, observers: Sequence[RunObserver]) -> None:
    if config.training.enabled:
        check_content(config)
        backend_kind(config.backend.kind).load_run()(config, out_dir, observers)
    else:
        # Without training there is nothing for hosts to do, whatever the backend.
        build_coordinator(config, out_dir, None, observers, threading.Event()).run()


def config_to_resume(run_dir: Place, rounds: int | None = None) -> Config:
    """The configuration with which the run in ``run_dir`` goes on, whatever ended it.

    ``rounds`` makes it longer, also one that is finished.

    Raises:
        UserError: the folder is no run, or its run is finished.
    """
    info = read_info(run_dir)
    if not isinstance(info.get("config"), dict):
        raise UserError(f"{run_dir / INFO_FILE}: has no config, so that the run cannot go on")
    config = Config.model_validate_json(json.dumps(info["config"]))
    if rounds is not None:
        config = config.model_copy(update={"rounds": rounds})
    if info["status"] == "finished" and (ended_by := info.get("ended_by")):
        raise UserError(f"the run is finished before its last round, since {ended_by}: {str(run_dir)!r}")
    if info["status"] == "finished" and config.rounds == info.get("n_rounds"):
        raise UserError(f"the run is finished; --rounds above {config.rounds} makes it longer: {str(run_dir)!r}")
    return config
