"""Packing: rows of one device share rows, whole, and count their own positions."""

import numpy as np
import pytest

from emulator.learning.data.packing import bins, packed
from emulator.learning.data.tokens import TokenData


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        # the longest first, each where the least room is left over: 6+4, 5+3, 5
        ([5, 4, 6, 3, 5], [[2, 1], [0, 4], [3]]),
        ([10, 10], [[0], [1]]),
        ([], []),
        # 3 fits behind 7 exactly, though 6 also has room for it
        ([6, 7, 3], [[1, 2], [0]]),
    ],
)
def test_a_row_goes_where_least_room_is_left(lengths: list[int], expected: list[list[int]]) -> None:
    assert list(bins(lengths, 10)) == expected


def test_packed_rows_keep_tokens_marks_and_positions_and_stay_with_their_device() -> None:
    lengths = np.array([2, 3, 2, 4], dtype=np.int32)
    ids = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 0, 0], [6, 7, 0, 0, 0], [8, 9, 10, 11, 0]], dtype=np.int32)
    scored = np.array([[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 1, 1, 1, 0]], dtype=bool)
    data = TokenData(input_ids=ids, lengths=lengths, labels=np.zeros(4, dtype=np.int64), scored=scored)
    rows, offsets = packed(data, np.array([0, 2, 4]))
    # the first device's two share a row; those of the second are too long for one
    assert offsets.tolist() == [0, 1, 3]
    assert rows.lengths.tolist() == [5, 4, 2]
    assert rows.input_ids.tolist() == [[3, 4, 5, 1, 2], [8, 9, 10, 11, 0], [6, 7, 0, 0, 0]]
    assert rows.positions is not None
    assert rows.positions.tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 0], [0, 1, 0, 0, 0]]
    assert rows.scored is not None
    assert rows.scored.astype(int).tolist() == [[0, 0, 1, 0, 1], [0, 1, 1, 1, 0], [0, 1, 0, 0, 0]]
