"""Libraries that only some observers need, and what is said where they are missing."""

from importlib.util import find_spec

from emulator.errors import ConfigError


def need(library: str, extra: str) -> None:
    """Check that ``library`` is installed, without importing it.

    Raises:
        ConfigError: it is not.
    """
    if find_spec(library) is None:
        raise ConfigError(
            f"this observer needs the package {library!r}; install it with: pip install 'jetbed[{extra}]'"
        )
