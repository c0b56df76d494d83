"""A file that a command makes: refused before the work begins, and never half there."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emulator.errors import ConfigError, UserError


def check_writable(path: Path, option: str = "--out") -> None:
    """Check that a file can be written here; one that exists already will be replaced.

    ``option`` is where ``path`` was given.

    Raises:
        ConfigError: it cannot. Nothing is created in either case.
    """
    parent = path.absolute().parent
    if path.is_dir():
        raise ConfigError(f"{option} takes a file, but this is a folder; give a file name in it: {str(path)!r}")
    if not parent.is_dir():
        raise ConfigError(f"{option}: the folder of this file does not exist; make it or choose another: {str(path)!r}")
    if (path.exists() and not path.is_file()) or not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{option}: this file cannot be written; choose another: {str(path)!r}")


@contextmanager
def replaced(path: Path, what: str = "the output") -> Iterator[Path]:
    """A hidden temporary file beside ``path``, to be written in the block, which takes its place at the end.

    Whatever stops the block, an interrupt too, leaves what was there before and nothing else. Messages call the file
    ``what``.

    Raises:
        UserError: the disk cannot be written.
    """
    # The process is in the name, so that two commands that write the same file do not mix. The ending is that of no
    # data set, so that readers which take every file of a folder pass over one that a kill left behind.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, what, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, parts: Iterable[str], what: str = "the output") -> int:
    """Write text, whole or not at all, as :func:`replaced` does; returns its size in bytes.

    Raises:
        UserError: the disk cannot be written.
    """
    with replaced(path, what) as temporary:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(parts)
        return temporary.stat().st_size


def unwritable(path: Path, what: str, error: OSError) -> UserError:
    """What a user is told when ``what``, at ``path``, cannot be written."""
    reason = error.strerror or str(error)
    return UserError(f"cannot write {what} ({reason}); free the disk or choose another place: {str(path)!r}")
