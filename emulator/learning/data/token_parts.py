"""Token ids of rows that lie on disk: made part by part, and kept on disk, too."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.learning.data.on_disk import ArrayOnDisk, DiskRows
from emulator.learning.data.tokens import Cut, TokenData

PART_ROWS = 4096
LARGE = ("input_ids", "scored", "token_types", "positions")
"""The arrays of :class:`TokenData` that have a number for each token."""

Tokens = Callable[[Sequence[Any], NDArray[np.int64]], tuple[TokenData, Cut]]
"""Of rows and what stands for their labels. What it makes of a row does not depend on the others."""


def tokens_of(rows: Sequence[Any], labels: NDArray[np.int64], make: Tokens) -> tuple[TokenData, Cut]:
    """What ``make`` makes of all rows; where these are on disk, of :data:`PART_ROWS` at a time."""
    if not isinstance(rows, DiskRows) or not len(rows):
        return make(rows, labels)
    large = {name: ArrayOnDisk(len(rows)) for name in LARGE}
    lengths, total = [], Cut(n_texts=0, n_texts_cut=0, n_tokens=0, n_tokens_cut=0)
    own_labels: list[Any] = []
    for start in range(0, len(rows), PART_ROWS):
        part = slice(start, start + PART_ROWS)
        data, cut = make(list(rows[part]), labels[part])
        for name in LARGE:
            own = getattr(data, name)
            if own is None:
                large.pop(name, None)
            else:
                large[name].append(own)
        lengths.append(data.lengths)
        own_labels.append(data.labels)
        total += cut
    found: dict[str, Any] = {name: each.whole() for name, each in large.items()}
    found |= {"lengths": np.concatenate(lengths), "labels": np.concatenate(own_labels)}
    return replace(data, **found), total
