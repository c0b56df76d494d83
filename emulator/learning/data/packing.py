"""Several short rows of a device share one of full length, in which the tokens of each count their own positions."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emulator.learning.data.tokens import TokenData


def packed(data: TokenData, offsets: NDArray[np.int64]) -> tuple[TokenData, NDArray[np.int64]]:
    """The rows of each device in as few as are needed, best fit first (Ding et al. 2024, arXiv 2404.10830, section 3).

    Args:
        data: rows whose loss is about tokens, those of device ``d`` from ``offsets[d]`` up to ``offsets[d + 1]``.
        offsets: ``(n_devices + 1,)``.

    Returns:
        The packed rows, with ``positions``, and their offsets. Padding is at position 0, as a text of its own.
    """
    seq_len = data.input_ids.shape[1]
    by_device = [list(bins(data.lengths[first:last], seq_len)) for first, last in pairwise(offsets.tolist())]
    rows = [
        [first + own for own in each]
        for first, every in zip(offsets.tolist(), by_device, strict=False)
        for each in every
    ]
    return _joined(data, rows), np.cumsum([0, *map(len, by_device)])


def bins(lengths: Sequence[int] | NDArray[np.int32], room: int) -> Iterator[list[int]]:
    """Numbers of ``lengths`` in groups of at most ``room``: the longest first, each where least room is left over."""
    groups: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(room + 1)]  # at each number, the groups that have so much left
    for number in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        length = int(lengths[number])
        left = next((left for left in range(length, room + 1) if with_room[left]), None)
        if left is None:
            groups.append([])
            group, left = len(groups) - 1, room
        else:
            group = with_room[left].pop(0)
        groups[group].append(number)
        with_room[left - length].append(group)
    return iter(groups)


def _joined(data: TokenData, rows: Sequence[Sequence[int]]) -> TokenData:
    assert data.scored is not None
    shape = len(rows), data.input_ids.shape[1]
    # What stands in padding is attended to by padding alone.
    ids, scored = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=bool)
    positions, lengths = np.zeros(shape, dtype=np.int32), np.zeros(shape[0], dtype=np.int32)
    for packed_row, own in enumerate(rows):
        for row in own:
            first, n = lengths[packed_row], data.lengths[row]
            place = slice(first, first + n)
            ids[packed_row, place] = data.input_ids[row, :n]
            scored[packed_row, place] = data.scored[row, :n]
            positions[packed_row, place] = np.arange(n)
            lengths[packed_row] += n
    return TokenData(
        input_ids=ids, lengths=lengths, labels=np.zeros(len(rows), dtype=np.int64), scored=scored, positions=positions
    )
