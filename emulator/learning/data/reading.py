"""Opens the data files that users name: delimited text, JSON and Parquet, one by one or as shards in a folder."""

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from device_profiles.text_files import FileError, decoded, read_bytes, shortened, size_of
from emulator.errors import DataError
from emulator.learning.data.delimited import read_delimited
from emulator.learning.data.json_rows import read_json, stream_json
from emulator.learning.data.on_disk import DiskRows, kept_like
from emulator.learning.data.tables import Column, FileLayout, TextTable, missing_column

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet")
COMPRESSED = ".gz"
STREAMED = (".jsonl", ".parquet")
"""Formats that can be read part by part."""
STREAMED_BYTES = 2**28
"""Data sets from this size on are, unless a run says otherwise: in memory, rows take several times as much."""

MOST_BYTES = 2**31
"""Of the text of a data set in one file."""
MOST_INFLATION = 50
"""How many times its size a file may grow when it is unpacked or expanded; texts grow 3 to 10 times."""
LEAST_LIMIT_BYTES = 2**26
"""Small files may grow to this size, whatever the factor."""


def suffix_of(path: Path) -> str:
    """The ending that tells the format, in small letters: ``.csv`` for ``A.CSV`` and for ``a.csv.gz``."""
    name = path.name.lower().removesuffix(COMPRESSED)
    return Path(name).suffix


def is_data_name(source: str) -> bool:
    """Whether ``source`` can only be meant as a file: it ends as one."""
    return suffix_of(Path(source)) in SUFFIXES or source.lower().endswith(COMPRESSED)


def read_table(path: Path, where: str, wanted: Sequence[Column], layout: FileLayout) -> TextTable:
    """The columns ``wanted`` of one file.

    Args:
        path: the file; its ending tells the format.
        where: the setting and the file, with which messages begin.
        wanted: names, or numbers for a delimited file without a header line.
        layout: of delimited text.

    Raises:
        DataError: the file cannot be read, or has no such column.
    """
    suffix = suffix_of(path)
    if layout.streams and suffix not in STREAMED:
        raise DataError(
            f"{where}: data.streaming is for {' and '.join(STREAMED)} files; leave it out, or convert the file"
        )
    if suffix not in SUFFIXES:
        allowed = f"{', '.join(SUFFIXES)}, each but .parquet also with {COMPRESSED}"
        raise DataError(f"{where} has a suffix that is not one of {allowed}; convert it, or rename it if it is one")
    if suffix == ".parquet":
        if path.name.lower().endswith(COMPRESSED):
            raise DataError(f"{where}: Parquet is compressed within; unpack it with gunzip")
        return _read_parquet(path, where, wanted, streams=bool(layout.streams))
    if layout.streams:
        return _stream_lines(path, where, wanted)
    try:
        text = decoded(_content(path))
    except FileError as error:
        raise DataError(f"{where}: {error}") from None
    if suffix in (".jsonl", ".json"):
        return read_json(text, where, wanted, is_lines=suffix == ".jsonl")
    return read_delimited(text, where, wanted, layout, suffix)


def _content(path: Path) -> bytes:
    n_bytes = size_of(path)
    if not path.name.lower().endswith(COMPRESSED):
        return read_bytes(path, MOST_BYTES)
    limit = min(MOST_BYTES, max(LEAST_LIMIT_BYTES, MOST_INFLATION * n_bytes))
    try:
        with gzip.open(path) as file:
            content = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"cannot be unpacked ({error}); unpack it with gunzip, or pack it again") from None
    if len(content) > limit:
        raise FileError(f"unpacks to more than {limit / 2**20:,.0f} MiB; unpack it with gunzip first")
    return content


def _stream_lines(path: Path, where: str, wanted: Sequence[Column]) -> TextTable:
    is_packed = path.name.lower().endswith(COMPRESSED)
    try:
        size_of(path)
        with gzip.open(path) if is_packed else path.open("rb") as file:
            return stream_json(_decoded_lines(file, where), where, wanted)
    except FileError as error:
        raise DataError(f"{where}: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{where}: cannot be read ({error}); see to the disk, or pack it again") from None


def _decoded_lines(file: Iterable[bytes], where: str) -> Iterator[str]:
    """The lines of a jsonl file as text."""
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where}: line {number} is not UTF-8, since it has the byte 0x{line[error.start]:02x}; convert the"
                " file with iconv -t UTF-8"
            ) from None


def _read_parquet(path: Path, where: str, wanted: Sequence[Column], *, streams: bool) -> TextTable:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        limit = max(LEAST_LIMIT_BYTES, MOST_INFLATION * size_of(path))
        with pq.ParquetFile(path) as file:
            there = tuple(file.schema_arrow.names)
            for column in wanted:
                if column not in there:
                    raise missing_column(where, column, there)
                if there.count(str(column)) > 1:
                    raise DataError(f"{where} has more than one column {column!r}; rename one of them")
            names = [str(column) for column in wanted]
            values: Mapping[Column, Sequence[Any]] = (
                {name: DiskRows.of(_parquet_cells(file, name)) for name in names}
                if streams
                else _parquet_values(file, names, limit, where)
            )
    except FileError as error:
        raise DataError(f"{where}: {error}") from None
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        raise DataError(f"{where}: cannot be read as parquet: {shortened(str(error), 200)}") from error
    n_rows = len(next(iter(values.values())))
    return TextTable(columns=there, values=values, places=range(1, n_rows + 1), place="row", form="parquet")


def _parquet_cells(file: Any, name: str) -> Iterator[Any]:
    """The cells of a column, of which some hundred are in memory at once."""
    for batch in file.iter_batches(batch_size=256, columns=[name]):
        yield from batch.column(0).to_pylist()


def _parquet_values(file: Any, wanted: Sequence[str], limit: int, where: str) -> dict[Column, list[Any]]:
    values: dict[Column, list[Any]] = {name: [] for name in wanted}
    n_bytes = 0
    if 8 * file.metadata.num_rows > limit:  # what a row takes at least
        raise DataError(f"{where} says that it has {file.metadata.num_rows:,} rows, more than a file of its size can")
    for batch in file.iter_batches(batch_size=1024, columns=list(wanted)):
        n_bytes += batch.nbytes
        if n_bytes > limit:
            raise DataError(f"{where} expands to more than {limit / 2**20:,.0f} MiB; split it into shards in a folder")
        for name in wanted:
            values[name] += batch.column(batch.schema.get_field_index(name)).to_pylist()
    return values


def joined(tables: Sequence[TextTable], paths: Sequence[Path]) -> TextTable:
    """The rows of shards one after another; rows are counted through all of them.

    Raises:
        DataError: the shards do not have the same columns.
    """
    first = tables[0]
    for table, path in zip(tables, paths, strict=True):
        if set(table.values) != set(first.values):
            raise DataError(f"{str(path)!r} has other columns than {str(paths[0])!r}")
    n_rows = sum(len(table.places) for table in tables)
    return TextTable(
        columns=first.columns,
        values={
            name: kept_like(own, (cell for table in tables for cell in table.values[name]))
            for name, own in first.values.items()
        }
        if len(tables) > 1
        else first.values,
        places=first.places if len(tables) == 1 else range(1, n_rows + 1),
        place=first.place if len(tables) == 1 else "row",
        form=first.form if len(tables) == 1 else f"{len(tables)} shards of {first.form}",
    )


Parts = dict[str, list[Path]]

_PARTS: Mapping[str, Callable[[str], bool]] = {
    "train": lambda stem: stem.startswith("train"),
    "test": lambda stem: stem.startswith("test"),
    "validation": lambda stem: stem.startswith(("valid", "dev", "eval")),
}


def shards(folder: Path, where: str) -> Parts:
    """The data files of a folder by part: ``train``, ``test`` and ``validation`` by their names, else all ``train``.

    Raises:
        DataError: it holds no data files, or files of several formats.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and is_data_name(path.name))
    kinds = {suffix_of(path) for path in files}
    if not files:
        raise DataError(f"{where} is a folder that holds no file ending in {', '.join(SUFFIXES)}; name a file, or them")
    if len(kinds) > 1:
        raise DataError(f"{where} is a folder with files of several formats, {', '.join(sorted(kinds))}; name one file")
    parts = {part: found for part, is_one in _PARTS.items() if (found := [file for file in files if is_one(file.stem)])}
    n_named = sum(map(len, parts.values()))
    if "train" not in parts and not n_named:
        return {"train": files}
    if "train" not in parts or n_named < len(files):
        names = ", ".join(file.name for file in files[:5])
        raise DataError(
            f"{where} is a folder in which some files are named as parts and others are not ({names}); name them "
            "train..., test... and validation..., or name one file"
        )
    return parts
