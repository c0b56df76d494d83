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
from emulator.running.continuation import check_rounds, rounds_kept, settings_that_differ
from emulator.running.resolve import resolved_settings
from emulator.storage.places import Place


def execute(config: Config, out_dir: Place, observers: Sequence[RunObserver] = (), *, resumes: bool = False) -> Place:
    """Run ``config`` to its end and write it into ``out_dir``; return the folder.

    The folder is new or empty, or it holds the run, which goes on from its last checkpoint and ends with the tables of
    one that was never disturbed. ``resumes`` says that the configuration comes from the folder, and lets a run begin
    anew that has come to no checkpoint.

    ``observers`` are told in this process, wherever the run goes on.

    Raises:
        UserError: something in the configuration, the model or the data cannot be used.
    """
    set_environment()
    told = Observers(observers)
    if not resumes and (n_rounds := rounds_to_go_on_from(config, out_dir)):
        resumes = True
        told.warned(
            f"this folder holds the run with {n_rounds} rounds; it goes on up to {config.rounds}: {str(out_dir)!r}"
        )
    if resumes:
        check_settings(config)
    else:
        check(config, out_dir)
    with owned(out_dir, told.warned):
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


def rounds_to_go_on_from(config: Config, out_dir: Place) -> int:
    """With how many rounds the run in ``out_dir`` goes on where ``config`` is to be run there; 0 where there is none.

    Raises:
        UserError: the folder holds a run that is not one of ``config``, that has all of its rounds, or of which nothing
            could be kept.
    """
    if not (out_dir / INFO_FILE).exists():
        return 0
    info, where = read_info(out_dir), f"choose another --out: {str(out_dir)!r}"
    if differences := settings_that_differ(info, resolved_settings(config)):
        raise UserError(f"the output folder holds a run with other settings ({differences}); give these, or {where}")
    n_before, n_done = int(info["config"]["rounds"]), rounds_kept(out_dir)
    if info["status"] == "finished" and config.rounds == info.get("n_rounds"):
        raise UserError(
            f"the output folder holds this run already, with all of its {config.rounds} rounds; give more --rounds to "
            f"make it longer, or {where}"
        )
    if not n_done:
        raise UserError(
            "the output folder holds this run without a checkpoint, so that nothing of it can be kept; 'jetbed resume' "
            f"begins it anew, or {where}"
        )
    check_rounds(n_before, config.rounds, config.evaluation.every_rounds, n_done)
    return n_done
