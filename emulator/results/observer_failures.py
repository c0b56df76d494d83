"""Adds to the description of a run that is over which observers have failed."""

import json
from collections.abc import Sequence
from contextlib import suppress

from emulator.errors import UserError
from emulator.results.info import read_info
from emulator.results.writer import INFO_FILE
from emulator.storage.files import write_text
from emulator.storage.places import Place

KEY = "observer_failures"


def add_observer_failures(run_dir: Place, failures: Sequence[str]) -> None:
    """Add ``failures``, a sentence each, to those in ``run.json``; nothing where there are none or no such file.

    A disk that takes no more is no error here: the run is over, and must not fail for what is said beside it.
    """
    if not failures:
        return
    with suppress(UserError):
        info = read_info(run_dir)
        info[KEY] = [*info.get(KEY, ()), *failures]
        write_text(run_dir / INFO_FILE, [json.dumps(info, indent=2, ensure_ascii=False), "\n"])
