"""A file that a command makes: refused before the work begins, and never half there."""

import os
from collections.abc import Iterable
from pathlib import Path

from emulator.errors import ConfigError, UserError


def check_out_file(path: Path) -> None:
    """Check that a file can be written here; one that exists already will be replaced.

    Raises:
        ConfigError: it cannot. Nothing is created in either case.
    """
    parent = path.absolute().parent
    if path.is_dir():
        raise ConfigError(f"the output is a file, but this is a folder; give --out a file name in it: {str(path)!r}")
    if not parent.is_dir():
        raise ConfigError(f"the folder of the output does not exist; make it, or choose another --out: {str(path)!r}")
    if (path.exists() and not path.is_file()) or not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"the output cannot be written; choose another --out: {str(path)!r}")


def write_file(path: Path, parts: Iterable[str]) -> int:
    """Write text under a hidden temporary name and then rename it; returns its size in bytes.

    Whatever stops it, an interrupt too, leaves what was there before and nothing else.

    Raises:
        UserError: the disk cannot be written.
    """
    # The process is in the name, so that two commands that write the same file do not mix.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(parts)
        n_bytes = temporary.stat().st_size
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write the output ({reason}); free the disk or choose another --out: {str(path)!r}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return n_bytes
