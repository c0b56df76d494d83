"""The rows of a data set by part, wherever it lies: a file, a folder of shards, or the hub."""

from collections.abc import Mapping, Sequence

from device_profiles.text_files import user_path
from emulator.errors import DataError
from emulator.learning.data.reading import is_data_name, joined, read_table, shards
from emulator.learning.data.tables import Column, FileLayout, TextTable
from emulator.shapes.hub import looks_like_path


def is_local(source: str) -> bool:
    """Whether ``source`` means a file or a folder rather than a data set of the hub."""
    path = user_path(source)
    try:
        return path.exists() or is_data_name(source) or looks_like_path(source)
    except (OSError, ValueError):  # too long a name, or one with a null byte
        return True


def read_parts(
    source: str, wanted: Sequence[Column], key: str, layout: FileLayout, configuration: str | None
) -> Mapping[str, TextTable]:
    """The rows of ``source``, the value of the setting ``key``, by part: ``train``, and what it sets apart for testing.

    Raises:
        DataError: it cannot be read, or has not the columns ``wanted``.
    """
    if not is_local(source):
        from emulator.learning.data.hub import read_hub

        return read_hub(source, configuration, wanted)
    if configuration:
        raise DataError(f"data.configuration is for data sets of the hub, and {source!r} is a file; leave it out")
    path, where = user_path(source), f"{key}: {source!r}"
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):
        is_file = is_folder = False
    if is_file:
        return {"train": read_table(path, where, wanted, layout)}
    if not is_folder:
        raise DataError(f"{key}: there is no file {source!r}")
    return {
        part: joined([read_table(file, f"{key}: {str(file)!r}", wanted, layout) for file in files], files)
        for part, files in shards(path, where).items()
    }
