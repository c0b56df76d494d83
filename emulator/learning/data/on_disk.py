"""Rows and arrays that lie in files without names, where a data set is larger than memory.

The files lie in the folder for temporary ones. Having no name, they are gone with whoever made them, however that ends.
"""

import mmap
import pickle
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class DiskRows(Sequence[T], Generic[T]):
    """A sequence of any plain values, of which memory holds no more than where each begins and ends.

    Args:
        content: the values one after another, pickled by this process.
        starts, stops: ``(n,)``, where each of them lies.
    """

    def __init__(self, content: mmap.mmap | bytes, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        self._content, self._starts, self._stops = content, starts, stops

    @classmethod
    def of(cls, values: Iterable[T]) -> "DiskRows[T]":
        """Writes ``values``, one by one."""
        ends = array("q", [0])
        with tempfile.TemporaryFile() as file:
            for value in values:
                ends.append(ends[-1] + file.write(pickle.dumps(value, pickle.HIGHEST_PROTOCOL)))
            file.flush()
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if ends[-1] else b""
        places = np.frombuffer(ends, dtype=np.int64)
        return cls(content, places[:-1], places[1:])

    def at(self, rows: NDArray[np.int64]) -> "DiskRows[T]":
        """The values with these numbers; nothing is copied."""
        return DiskRows(self._content, self._starts[rows], self._stops[rows])

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "DiskRows[T]": ...
    def __getitem__(self, index: int | slice) -> "T | DiskRows[T]":
        if isinstance(index, slice):
            return DiskRows(self._content, self._starts[index], self._stops[index])
        value: T = pickle.loads(self._content[self._starts[index] : self._stops[index]])
        return value

    def __iter__(self) -> Iterator[T]:
        for start, stop in zip(self._starts, self._stops, strict=True):
            yield pickle.loads(self._content[start:stop])


def kept_like(values: Sequence[Any], made: Iterable[T]) -> Sequence[T]:
    """What is ``made`` of ``values``, on disk where these are."""
    return DiskRows.of(made) if isinstance(values, DiskRows) else list(made)


def rows_of(values: Sequence[T], rows: NDArray[np.int64]) -> Sequence[T]:
    """The values with these numbers, on disk where all of them are."""
    return values.at(rows) if isinstance(values, DiskRows) else [values[row] for row in rows]


class ArrayOnDisk:
    """An array of which rows are written one part after another, and which numpy reads from a file.

    Args:
        n_rows: how many there will be.
    """

    def __init__(self, n_rows: int) -> None:
        self._n_rows, self._n_written = n_rows, 0
        self._array: NDArray[Any] | None = None

    def append(self, rows: NDArray[Any]) -> None:
        """Writes the next ``rows``."""
        if self._array is None:
            with tempfile.TemporaryFile() as file:
                self._array = np.memmap(file, dtype=rows.dtype, mode="w+", shape=(self._n_rows, *rows.shape[1:]))
        self._array[self._n_written : self._n_written + len(rows)] = rows
        self._n_written += len(rows)

    def whole(self) -> NDArray[Any]:
        """All rows, once they are written."""
        assert self._array is not None
        assert self._n_written == self._n_rows
        return self._array
