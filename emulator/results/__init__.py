"""What a run leaves behind: Parquet tables and run.json, and how to write, read and check them."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emulator.results.invariants import InvariantError, verify
    from emulator.results.reader import RunFrames, SweepFrames, load, load_run, load_sweep
    from emulator.results.writer import RunWriter, check_out_dir, default_out_dir

__all__ = [
    "InvariantError",
    "RunFrames",
    "RunWriter",
    "SweepFrames",
    "check_out_dir",
    "default_out_dir",
    "load",
    "load_run",
    "load_sweep",
    "verify",
]

_HOMES = {
    "InvariantError": "invariants",
    "RunFrames": "reader",
    "RunWriter": "writer",
    "SweepFrames": "reader",
    "check_out_dir": "writer",
    "default_out_dir": "writer",
    "load": "reader",
    "load_run": "reader",
    "load_sweep": "reader",
    "verify": "invariants",
}


def __getattr__(name: str) -> Any:
    # A run that only writes should not wait for the imports of those that read: pandas, pyarrow.dataset.
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
