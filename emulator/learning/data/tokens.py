"""Texts as token ids, and how far a batch of them is cut. Numpy only: hosts need no reader of files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DataError
from emulator.learning.data.options import OptionRows

LENGTH_STEP = 2
"""Batches are cut to their longest row, rounded up to a multiple of this many tokens; coarser steps cost more time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResponseTokens:
    """What is to be said to each text, ``input_ids (n, response_len)`` int32, padded on the right; ``lengths (n,)``."""

    input_ids: NDArray[np.int32]
    lengths: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenData:
    """Tokenised texts: ``input_ids (n, seq_len)`` int32, padded on the right; ``lengths (n,)``.

    ``labels`` are those of classes, int64 ``(n,)``; or numbers that are learnt, float32 ``(n,)``; or 1 for each label
    that an example has, float32 ``(n, n_labels)``.

    Where the loss is about tokens, ``scored (n, seq_len)`` tells which; the first of a row is never one of them. Where
    a model tells the two texts of a pair apart, ``token_types (n, seq_len)`` is 1 for the tokens of the second. Where
    several texts are packed into a row, ``positions (n, seq_len)`` counts the tokens of each from 0. Where rows are
    options of choices, ``options`` says of which. Where a model reads a text and answers with another, ``responses``
    are these, of which all tokens are learnt.
    """

    input_ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    labels: NDArray[np.int64] | NDArray[np.float32]
    scored: NDArray[np.bool_] | None = None
    token_types: NDArray[np.int8] | None = None
    positions: NDArray[np.int32] | None = None
    options: OptionRows | None = None
    responses: ResponseTokens | None = None

    @property
    def n_scored(self) -> NDArray[np.int64] | None:
        """How many tokens of each row the loss is about, ``(n,)``; None where it is not about tokens."""
        if self.responses is not None:
            return self.responses.lengths.astype(np.int64)
        return None if self.scored is None else self.scored.sum(axis=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What was cut off texts: of how many texts, and how many of their tokens; special tokens do not count."""

    n_texts: int
    n_texts_cut: int
    n_tokens: int
    n_tokens_cut: int

    def __add__(self, other: "Cut") -> "Cut":
        return Cut(
            n_texts=self.n_texts + other.n_texts,
            n_texts_cut=self.n_texts_cut + other.n_texts_cut,
            n_tokens=self.n_tokens + other.n_tokens,
            n_tokens_cut=self.n_tokens_cut + other.n_tokens_cut,
        )


def tokenize(
    texts: Sequence[str] | Sequence[tuple[str, str]], labels: NDArray[np.int64], tokenizer: Any, seq_len: int
) -> tuple[TokenData, Cut]:
    """Token ids of ``texts``, truncated and padded to ``seq_len`` tokens by the model's own ``tokenizer``.

    Of a pair that is too long, the longer text is cut first.

    Raises:
        DataError: no token of a text is left beside those that the tokenizer adds, or rows are not padded on the right.
    """
    is_pair = len(texts) > 0 and not isinstance(texts[0], str)
    columns = [list(column) for column in zip(*texts, strict=True)] if is_pair else [list(texts)]
    n_added = tokenizer.num_special_tokens_to_add(pair=is_pair)
    if seq_len < n_added + len(columns):
        raise DataError(
            f"data.seq_len leaves no token of a text, since the tokenizer adds {n_added} to each; give at least "
            f"{n_added + len(columns)}, got {seq_len!r}"
        )
    encoded = tokenizer(*columns, truncation=True, max_length=seq_len, padding="max_length", return_tensors="np")
    mask = encoded["attention_mask"].astype(bool)
    if (mask[:, 1:] > mask[:, :-1]).any():
        raise DataError("model.train: its tokenizer does not pad on the right; set its padding_side and save it again")
    lengths = mask.sum(axis=1).astype(np.int32)
    n_cut = np.array([_n_cut(row) for row in (() if is_pair else encoded.encodings or ())], dtype=np.int64)
    if not len(n_cut):  # a tokenizer written in Python says nothing of what it cuts, and none does of pairs
        whole = tokenizer(*columns, add_special_tokens=False, verbose=False)["input_ids"]
        n_cut = np.array([max(0, len(row) + n_added - seq_len) for row in whole], dtype=np.int64)
    types = encoded.get("token_type_ids") if is_pair else None
    data = TokenData(
        input_ids=encoded["input_ids"].astype(np.int32),
        lengths=lengths,
        labels=labels.astype(np.int64),
        token_types=None if types is None else types.astype(np.int8),
    )
    n_kept = int(lengths.sum()) - n_added * len(texts)
    return data, Cut(
        n_texts=len(texts),
        n_texts_cut=int((n_cut > 0).sum()),
        n_tokens=n_kept + int(n_cut.sum()),
        n_tokens_cut=int(n_cut.sum()),
    )


def _n_cut(encoding: Any) -> int:
    """The tokens of a text that did not fit."""
    return sum(len(rest.ids) - sum(rest.special_tokens_mask) for rest in encoding.overflowing)


def cut_length(lengths: NDArray[np.int32], seq_len: int) -> int:
    """To how many of ``seq_len`` tokens a batch with rows of ``lengths`` is cut."""
    return min(seq_len, -(-int(lengths.max()) // LENGTH_STEP) * LENGTH_STEP)
