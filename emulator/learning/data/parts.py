"""The rows of a data set by part, wherever it lies: a file, a folder of shards, or the hub."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from device_profiles.text_files import user_path
from emulator.errors import DataError
from emulator.learning.data.reading import (
    STREAMED,
    STREAMED_BYTES,
    is_data_name,
    joined,
    read_table,
    shards,
    suffix_of,
)
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

        if layout.streams:
            raise DataError(f"data.streaming is for files, and {source!r} is a data set of the hub; leave it out")

        return read_hub(source, configuration, wanted)
    if configuration:
        raise DataError(f"data.configuration is for data sets of the hub, and {source!r} is a file; leave it out")
    path, where = user_path(source), f"{key}: {source!r}"
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):
        is_file = is_folder = False
    if is_file:
        return {"train": read_table(path, where, wanted, _streamed(layout, [path]))}
    if not is_folder:
        raise DataError(f"{key}: there is no file {source!r}")
    layout = _streamed(layout, [file for files in shards(path, where).values() for file in files])
    return {
        part: joined([read_table(file, f"{key}: {str(file)!r}", wanted, layout) for file in files], files)
        for part, files in shards(path, where).items()
    }


def _streamed(layout: FileLayout, files: Sequence[Path]) -> FileLayout:
    """``layout`` in which it is decided whether rows are kept on disk."""
    if layout.streams is not None:
        return layout
    is_large = sum(file.stat().st_size for file in files) >= STREAMED_BYTES
    return replace(layout, streams=is_large and all(suffix_of(file) in STREAMED for file in files))
