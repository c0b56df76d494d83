"""Prompts and the responses to them as token ids, each by itself: what a model reads, and what it is to say."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from emulator.errors import DataError
from emulator.learning.data.options import Choice, option_rows
from emulator.learning.data.segments import Row, shown_parts
from emulator.learning.data.tables import shown
from emulator.learning.data.tokens import Cut, ResponseTokens, TokenData, tokenize


def tokenize_responses(
    rows: Sequence[Row], tokenizer: Any, seq_len: int, response_seq_len: int
) -> tuple[TokenData, Cut]:
    """Token ids of ``rows``: prompts cut at ``seq_len`` tokens and responses at ``response_seq_len``; of a choice the
    answer is the response.

    Prompts are what the tokenizer makes of a text. To a response belongs the token that ends it, but not to an option.
    Blanks where they meet are left out. Cuts count prompts and responses as texts of their own.

    Raises:
        DataError: no token is left of a prompt or of a response.
    """
    given, said = zip(*map(shown_parts, rows), strict=True)
    ends = [not isinstance(row, Choice) for row in rows]
    return _tokenized(
        [*map(str.rstrip, given)], [text.lstrip(" ") for text in said], ends, tokenizer, seq_len, response_seq_len
    )


def tokenize_response_options(
    choices: Sequence[Choice], tokenizer: Any, seq_len: int, response_seq_len: int
) -> tuple[TokenData, Cut]:
    """As :func:`tokenize_responses`, with a row for every option of every choice.

    Raises:
        DataError: no token of a prompt or an option is left.
    """
    given = [choice.given.rstrip() for choice in choices for _ in choice.options]
    options = [option.lstrip(" ") for choice in choices for option in choice.options]
    ends = [False] * len(options)
    data, cut = _tokenized(given, options, ends, tokenizer, seq_len, response_seq_len)
    return replace(data, options=option_rows(choices)), cut


def _tokenized(
    given: Sequence[str], said: Sequence[str], ends: Sequence[bool], tokenizer: Any, seq_len: int, response_seq_len: int
) -> tuple[TokenData, Cut]:
    prompts, cut = tokenize(given, np.zeros(len(given), dtype=np.int64), tokenizer, seq_len)
    nothing = np.flatnonzero(prompts.lengths == 0)
    if len(nothing):
        raise DataError(
            f"data.prompt_column: the tokenizer makes nothing of {shown(given[nothing[0]])!r}; remove such rows"
        )
    responses, response_cut = _responses(said, ends, tokenizer, response_seq_len)
    return replace(prompts, responses=responses), cut + response_cut


def _responses(
    said: Sequence[str], ends: Sequence[bool], tokenizer: Any, response_seq_len: int
) -> tuple[ResponseTokens, Cut]:
    n, end = len(said), tokenizer.eos_token_id
    ids = np.full((n, response_seq_len), tokenizer.pad_token_id, dtype=np.int32)
    lengths, n_cut = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int64)
    encoded = tokenizer(list(said), add_special_tokens=False, verbose=False)["input_ids"]
    for row, own in enumerate(encoded):
        if not own:
            raise DataError(
                f"data.response_column: the tokenizer makes nothing of {shown(said[row])!r}; remove such rows"
            )
        tokens = [*own, end] if ends[row] and end is not None else own
        lengths[row] = min(len(tokens), response_seq_len)
        n_cut[row] = len(tokens) - lengths[row]
        ids[row, : lengths[row]] = tokens[: lengths[row]]
    return ResponseTokens(input_ids=ids, lengths=lengths), Cut(
        n_texts=n,
        n_texts_cut=int((n_cut > 0).sum()),
        n_tokens=int(lengths.sum() + n_cut.sum()),
        n_tokens_cut=int(n_cut.sum()),
    )
