"""jetbed: an emulated testbed of Jetson boards that fine-tune a language model together."""

from typing import TYPE_CHECKING, Any

from emulator.version import VERSION as __version__

if TYPE_CHECKING:
    from emulator.results.reader import load

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # Policies, hosts and the command line import this package; pandas and pyarrow are for those who read results.
    if name == "load":
        from emulator.results.reader import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
