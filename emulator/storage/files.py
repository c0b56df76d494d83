"""A file that a command makes: refused before the work begins, and never half there.

All that is written to a place, on this machine or on a storage, is written here.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emulator.errors import ConfigError
from emulator.storage.places import Place, RemotePath
from emulator.storage.refusals import unwritable


def check_writable(path: Place, option: str = "--out") -> None:
    """Check that a file can be written here; one that exists already will be replaced.

    ``option`` is where ``path`` was given.

    Raises:
        ConfigError: it cannot. Nothing is created in either case.
        StorageError: there is no such storage, or it cannot be reached.
    """
    if isinstance(path, RemotePath):
        path.check_reachable()
    if path.is_dir():
        raise ConfigError(f"{option} takes a file, but this is a folder; give a file name in it: {str(path)!r}")
    if isinstance(path, RemotePath):
        return  # whose folders come with what lies in them
    parent = path.absolute().parent
    if not parent.is_dir():
        raise ConfigError(f"{option}: the folder of this file does not exist; make it or choose another: {str(path)!r}")
    if (path.exists() and not path.is_file()) or not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{option}: this file cannot be written; choose another: {str(path)!r}")


@contextmanager
def replaced(path: Place, what: str = "the output") -> Iterator[Path]:
    """A hidden temporary file, to be written in the block, which takes the place of ``path`` at the end.

    Whatever stops the block, an interrupt too, leaves what was there before and nothing else. Messages call the file
    ``what``.

    Raises:
        UserError: the disk or storage cannot be written.
    """
    try:
        with whole_file(path) as temporary:
            yield temporary
    except OSError as error:
        raise unwritable(path, what, error) from error


@contextmanager
def whole_file(path: Place) -> Iterator[Path]:
    """As :func:`replaced`, but with the errors of the system.

    Raises:
        OSError: the disk or storage cannot be written.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="jetbed-") as folder:
            temporary = Path(folder) / path.name
            yield temporary
            path.write_bytes(temporary.read_bytes())
        return
    # The process is in the name, so that two commands that write the same file do not mix. The ending is that of no
    # data set, so that readers which take every file of a folder pass over one that a kill left behind.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Place, parts: Iterable[str], what: str = "the output") -> int:
    """Write text, whole or not at all, as :func:`replaced` does; returns its size in bytes.

    Raises:
        UserError: the disk or storage cannot be written.
    """
    with replaced(path, what) as temporary:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(parts)
        return temporary.stat().st_size


def write_durably(path: Place, content: bytes) -> None:
    """Write a file, whole or not at all, that is there after a loss of power too.

    Raises:
        OSError: the disk or storage cannot be written.
    """
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def filled_folder(path: Place) -> Iterator[Path]:
    """A folder of this machine to be filled in the block; what it holds at the end lies in ``path``.

    Raises:
        OSError: the disk or storage cannot be written.
    """
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="jetbed-") as scratch:
        folder = Path(scratch) / path.name
        yield folder
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                (path / file.relative_to(folder).as_posix()).write_bytes(file.read_bytes())


def make_folder(path: Place, *, parents: bool = True) -> None:
    """Make a folder where there is none; on a storage it comes with its first file.

    Raises:
        OSError: the disk cannot be written.
    """
    if isinstance(path, Path):
        path.mkdir(parents=parents, exist_ok=True)


def remove_tree(path: Place) -> None:
    """Remove a folder with all that lies in it; nothing where there is none.

    Raises:
        OSError: it cannot be removed.
    """
    if isinstance(path, RemotePath):
        path.remove_tree()
    elif path.exists():
        shutil.rmtree(path)
