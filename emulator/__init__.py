"""jetbed: an emulated testbed of Jetson boards that fine-tune a language model together.

For scripts: :func:`emulate` runs a testbed, :func:`load` reads a run or a sweep, ``analysis`` compares them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from emulator.results.version import VERSION as __version__

if TYPE_CHECKING:
    from emulator import analysis
    from emulator.config import Config, load_config
    from emulator.launch.scripting import emulate
    from emulator.results.reader import load

__all__ = ["Config", "__version__", "analysis", "emulate", "load", "load_config"]

_HOMES = {"Config": "config", "emulate": "launch.scripting", "load": "results.reader", "load_config": "config"}


def __getattr__(name: str) -> Any:
    # Policies, hosts and the command line import this package; what scripts need, pandas above all, is for scripts.
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name == "analysis":
        return importlib.import_module(f"{__name__}.analysis")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
