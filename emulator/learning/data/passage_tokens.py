"""Rows of data sets for language models as token ids, and which of these are learnt."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from emulator.errors import DataError
from emulator.learning.data.chat import Conversation, encoded_chats
from emulator.learning.data.options import Choice, option_rows
from emulator.learning.data.segments import Passage, Row, response_to, shown_parts
from emulator.learning.data.tables import shown
from emulator.learning.data.tokens import Cut, TokenData

TokensOfRow = tuple[list[int], list[int], list[bool]]
"""What stands before a row whatever is cut off, its tokens, and whether each of these is learnt."""


def tokenize_rows(rows: Sequence[Row], tokenizer: Any, seq_len: int) -> tuple[TokenData, Cut]:
    """Token ids of ``rows``, padded to ``seq_len`` tokens, and which of them are learnt; of a choice the answer is.

    Segments are tokenised one by one, as a prompt is where a model is asked to go on; what the tokenizer puts before a
    text stands before the first. Chats are tokenised whole, as their template has them. A row that is too long loses
    what it begins with, as long as half of ``seq_len`` is left of that, and then its end. The first token is never
    learnt, since nothing stands before it.

    Raises:
        DataError: no token of a row is left to be learnt, or a chat cannot be put into words.
    """
    n = len(rows)
    ids = np.full((n, seq_len), tokenizer.pad_token_id, dtype=np.int32)
    scored = np.zeros((n, seq_len), dtype=bool)
    lengths, n_cut, n_start = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int64), 0
    for row, (start, tokens, learnt) in enumerate(_encoded(rows, tokenizer)):
        kept = _kept(learnt, seq_len - len(start))
        n_cut[row] = len(tokens) - len(kept)
        lengths[row] = len(start) + len(kept)
        n_start += len(start)
        ids[row, : lengths[row]] = [*start, *(tokens[place] for place in kept)]
        scored[row, len(start) : lengths[row]] = [learnt[place] for place in kept]
    scored[:, 0] = False
    nothing = np.flatnonzero(~scored.any(axis=1))
    if len(nothing):
        text = "".join(shown_parts(rows[nothing[0]]))
        raise DataError(
            f"data.seq_len: no token is left to be learnt of {shown(text)!r} at {seq_len} tokens; give more, or remove "
            "texts of a single token"
        )
    cut = Cut(
        n_texts=n,
        n_texts_cut=int((n_cut > 0).sum()),
        n_tokens=int(lengths.sum()) - n_start + int(n_cut.sum()),
        n_tokens_cut=int(n_cut.sum()),
    )
    return TokenData(input_ids=ids, lengths=lengths, labels=np.zeros(n, dtype=np.int64), scored=scored), cut


def tokenize_options(choices: Sequence[Choice], tokenizer: Any, seq_len: int) -> tuple[TokenData, Cut]:
    """As :func:`tokenize_rows`, with a row for every option of every choice.

    Raises:
        DataError: no token of an option is left.
    """
    options = [response_to(choice.given, option, ends=False) for choice in choices for option in choice.options]
    data, cut = tokenize_rows(options, tokenizer, seq_len)
    return replace(data, options=option_rows(choices)), cut


def _encoded(rows: Sequence[Row], tokenizer: Any) -> Iterator[TokensOfRow]:
    chats = [row for row in rows if isinstance(row, Conversation)]
    if chats:
        for tokens, learnt in encoded_chats(chats, tokenizer):
            n_start = int(tokens[:1] == [tokenizer.bos_token_id])
            yield tokens[:n_start], tokens[n_start:], learnt[n_start:]
        return
    start, passages = _start(tokenizer), [_passage(row) for row in rows if not isinstance(row, Conversation)]
    texts = _encoded_texts([segment.text for passage in passages for segment in passage], tokenizer)
    for passage in passages:
        yield start, *_joined(passage, texts, tokenizer.eos_token_id)


def _passage(row: Passage | Choice) -> Passage:
    return response_to(row.given, row.options[row.answer], ends=False) if isinstance(row, Choice) else row


def _start(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text."""
    own = tokenizer("")["input_ids"]
    return [token for token in own if token != tokenizer.eos_token_id or token == tokenizer.bos_token_id][:1]


def _encoded_texts(texts: Sequence[str], tokenizer: Any) -> Iterator[list[int]]:
    if not texts:
        return iter(())
    return iter(tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"])


def _joined(passage: Passage, encoded: Iterator[list[int]], end: int | None) -> tuple[list[int], list[bool]]:
    """The tokens of a passage, of whose segments ``encoded`` gives the next ones, and whether each is learnt."""
    tokens: list[int] = []
    learnt: list[bool] = []
    for segment in passage:
        own = next(encoded) + ([end] if segment.ends and end is not None else [])
        tokens += own
        learnt += [segment.is_learnt] * len(own)
    return tokens, learnt


def _kept(learnt: Sequence[bool], most: int) -> range:
    """The tokens that are left of a passage, at most so many."""
    n_given = next((place for place, each in enumerate(learnt) if each), 0)
    first = min(max(len(learnt) - most, 0), max(n_given - most // 2, 0))
    return range(first, min(len(learnt), first + most))
