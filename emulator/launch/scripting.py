"""For scripts and notebooks: a run from Python in one call."""

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from device_profiles.text_files import user_path
from emulator.config import Config, load_config
from emulator.launch.execute import execute
from emulator.observers.base import RunObserver
from emulator.results.reader import RunFrames, load_run
from emulator.results.writer import claim_default_out_dir
from emulator.storage.places import Place, place


def emulate(
    settings: Config | Mapping[str, Any] | None = None,
    out: str | Place | None = None,
    *,
    config_file: str | Path | None = None,
    observers: Sequence[RunObserver] = (),
) -> RunFrames:
    """Run a testbed to its end, write its Parquet logs, and read them.

    Example::

        import emulator

        run = emulator.emulate({"policy.path": "legend", "rounds": 5, "testbed.n_devices": 16}, out="runs/first")
        print(run.rounds["accuracy"])

    Args:
        settings: a whole configuration, or settings by key path that override those of ``config_file``;
            ``jetbed run --print-config`` lists them.
        out: the folder of the run, new, empty or that of the same run, which goes on where it was, or a URL such as
            ``s3://bucket/runs/first``; ``runs/<time>-<policy>-s<seed>`` without.
        config_file: a TOML file, as for ``jetbed run``; the default testbed without.
        observers: are told what becomes of the run, in this process, wherever it goes on; those of the configuration
            are told where its coordinator is.

    Raises:
        UserError: something in the configuration, the model or the data cannot be used.
    """
    if isinstance(settings, Config):
        config = settings
    else:
        config = load_config(None if config_file is None else user_path(config_file), list((settings or {}).items()))
    told = [*observers, _Warnings()]
    if out is not None:
        return load_run(execute(config, place(out), told))
    folder = claim_default_out_dir(config.policy.path, config.seed, datetime.now())
    try:
        return load_run(execute(config, folder, told))
    finally:
        with contextlib.suppress(OSError):  # not empty: the run has written into it
            folder.rmdir()


class _Warnings(RunObserver):
    """What a run warns of, as warnings of Python."""

    def warned(self, text: str) -> None:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
