"""Texts as token ids, and how far a batch of them is cut. Numpy only: hosts need no reader of files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH_STEP = 2
"""Batches are cut to their longest row, rounded up to a multiple of this many tokens; coarser steps cost more time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenData:
    """Tokenised texts: ``input_ids (n, seq_len)`` int32, padded on the right; ``lengths (n,)`` and ``labels (n,)``."""

    input_ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    labels: NDArray[np.int64]


def tokenize(texts: Sequence[str], labels: NDArray[np.int64], tokenizer: Any, seq_len: int) -> TokenData:
    """Token ids of ``texts``, truncated and padded to ``seq_len`` tokens by the model's own ``tokenizer``."""
    encoded = tokenizer(list(texts), truncation=True, max_length=seq_len, padding="max_length", return_tensors="np")
    return TokenData(
        input_ids=encoded["input_ids"].astype(np.int32),
        lengths=encoded["attention_mask"].sum(axis=1).astype(np.int32),
        labels=labels.astype(np.int64),
    )


def cut_length(lengths: NDArray[np.int32], seq_len: int) -> int:
    """To how many of ``seq_len`` tokens a batch with rows of ``lengths`` is cut."""
    return min(seq_len, -(-int(lengths.max()) // LENGTH_STEP) * LENGTH_STEP)
