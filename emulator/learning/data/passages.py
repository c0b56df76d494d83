"""Texts to be foretold token by token: plain ones, or responses to prompts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DataError
from emulator.learning.data.parts import read_parts
from emulator.learning.data.source import DataSource
from emulator.learning.data.split import at_most, hold_out
from emulator.learning.data.tables import Column, MissingColumnError, TextTable, shown
from emulator.learning.data.template import Template, template_of
from emulator.learning.data.tokens import Cut, TokenData
from emulator.seeds import Seeds
from emulator.shapes.names import BUILTIN_PREFIX


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a passage; ``is_learnt`` says whether its tokens are to be foretold.

    With ``ends``, the token that ends a text belongs to it, so that a model learns where a response is over.
    """

    text: str
    is_learnt: bool
    ends: bool = False


Passage = tuple[Segment, ...]
"""A text that is read from left to right; what it begins with may be given rather than learnt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PassageData:
    """Passages of a data set. ``what`` says in words what they are; the rest is as in ``TextData``."""

    train: tuple[Passage, ...]
    test: tuple[Passage, ...]
    train_rows: NDArray[np.int64]
    what: str
    form: str
    columns: tuple[str, ...]

    def understood(self, source: str) -> dict[str, Any]:
        """What was understood of ``source``, as plain data."""
        first = self.train[0]
        return {
            "source": source,
            "form": self.form,
            "columns": list(self.columns),
            "n_train": len(self.train),
            "n_test": len(self.test),
            "example": {
                "given": shown("".join(each.text for each in first if not each.is_learnt), 80),
                "learnt": shown("".join(each.text for each in first if each.is_learnt), 80),
            },
        }


def load_passages(data: DataSource, seed: int) -> PassageData:
    """Reads passages: of ``data.response_column`` after ``data.prompt_column``, or else of ``data.text_column``.

    Held-out rows are found as for labelled texts (:func:`emulator.learning.data.texts.load_data`).

    Raises:
        DataError: a missing file or column, an empty cell, no rows, or a template that has no place for the prompt.
    """
    seeds, rows = Seeds(seed), _rows_of(data)
    if data.source.startswith(BUILTIN_PREFIX):
        raise DataError(
            f"data.source: {data.source!r} has labels and no responses; for task.kind = 'causal' give a file or hub id"
        )
    parts = _parts(data, data.source, "data.source", rows)
    train = rows.of(parts["train"], data.source, "data.source")
    test = next(
        (rows.of(parts[name], data.source, "data.source") for name in ("test", "validation") if name in parts), None
    )
    if data.test_source is not None:
        tests = _parts(data, data.test_source, "data.test_source", rows)
        test = rows.of(tests.get("test", tests["train"]), data.test_source, "data.test_source")
    kept = np.arange(len(train))
    if test is None:
        kept, held_out = hold_out(
            np.zeros(len(train), dtype=np.int64), data.test_fraction, seeds.rng("data_split"), data.source
        )
        train, test = [train[row] for row in kept], [train[row] for row in held_out]
    train_rows = _at_most(len(train), data.n_train, seeds.rng("data_train"))
    test_rows = _at_most(len(test), data.n_test, seeds.rng("data_test"))
    return PassageData(
        train=tuple(train[row] for row in train_rows),
        test=tuple(test[row] for row in test_rows),
        train_rows=kept[train_rows],
        what=rows.what,
        form=parts["train"].form,
        columns=tuple(str(name) for name in parts["train"].columns),
    )


@dataclass(frozen=True, slots=True)
class _PlainTexts:
    """All of a text is learnt."""

    column: Column
    settings: str = "data.text_column, or data.prompt_column and data.response_column"
    what: str = "texts"

    @property
    def wanted(self) -> tuple[Column, ...]:
        return (self.column,)

    def of(self, table: TextTable, source: str, key: str) -> list[Passage]:
        return [(Segment(text, True),) for text in texts_of(table, self.column, source, key, "an empty text")]


@dataclass(frozen=True, slots=True)
class _Responses:
    """A prompt, put into a template, is given; the response is learnt."""

    prompt: Column
    response: Column
    template: Template
    settings: str = "data.prompt_column and data.response_column"
    what: str = "responses to prompts"

    @property
    def wanted(self) -> tuple[Column, ...]:
        others = [name for name in self.template.columns if name not in (self.prompt, self.response)]
        return (self.prompt, self.response, *others)

    def of(self, table: TextTable, source: str, key: str) -> list[Passage]:
        prompts = texts_of(table, self.prompt, source, key, "an empty prompt")
        responses = texts_of(table, self.response, source, key, "a missing response")
        others = {name: table.values[name] for name in self.template.columns if name in table.values}
        passages: list[Passage] = []
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            cells = {name: _text(values[row]) for name, values in others.items()}
            given = self.template.filled(prompt, cells)
            passages.append((Segment(given, False), Segment(response, True, ends=True)))
        return passages


def _rows_of(data: DataSource) -> _PlainTexts | _Responses:
    prompt, response = data.prompt_column, data.response_column
    if prompt is None and response is None:
        if data.template:
            raise DataError(
                f"data.template puts a prompt into words, and there is none: give data.prompt_column and "
                f"data.response_column, got the template {shown(data.template)!r}"
            )
        return _PlainTexts(data.text_column)
    if prompt is None or response is None:
        given, lacking = ("prompt", "response") if response is None else ("response", "prompt")
        raise DataError(
            f"data.{given}_column is given and data.{lacking}_column is not; give both, or data.text_column for plain "
            "texts"
        )
    if prompt == response:
        raise DataError(
            f"data.prompt_column and data.response_column must be two different columns, got {prompt!r} for both"
        )
    return _Responses(prompt, response, template_of(data.template))


def _parts(data: DataSource, source: str, key: str, rows: _PlainTexts | _Responses) -> Mapping[str, TextTable]:
    try:
        return read_parts(source, rows.wanted, key, data.layout, data.configuration)
    except MissingColumnError as error:
        raise DataError(f"{error.found}; columns are set by {rows.settings}") from None


def texts_of(table: TextTable, column: Column, source: str, key: str, what: str) -> list[str]:
    """The texts of a column, none of them empty; ``what`` an empty one is called.

    Raises:
        DataError: there is no row, or a cell is empty or no plain value.
    """
    if not len(table.places):
        raise DataError(f"{key}: {source!r} has no rows; give a data set with at least two")
    texts = []
    for place, value in zip(table.places, table.values[column], strict=True):
        if isinstance(value, list | tuple | dict | set | np.ndarray | bytes):
            raise DataError(
                f"{key}: {source!r} has a {type(value).__name__} in {table.place} {place} of {column!r}; texts must be "
                "strings"
            )
        texts.append(_text(value))
        if not texts[-1].strip():
            raise DataError(f"{key}: {source!r} has {what} in {table.place} {place} of {column!r}; remove such rows")
    return texts


def _text(value: Any) -> str:
    """A cell as text; empty where it is missing."""
    return "" if value is None or (isinstance(value, float) and value != value) else str(value)


def _at_most(n: int, n_most: int | None, rng: np.random.Generator) -> NDArray[np.int64]:
    return at_most(np.zeros(n, dtype=np.int64), n_most, rng)


def tokenize_passages(passages: Sequence[Passage], tokenizer: Any, seq_len: int) -> tuple[TokenData, Cut]:
    """Token ids of ``passages``, padded to ``seq_len`` tokens, and which of them are learnt.

    Segments are tokenised one by one, as a prompt is where a model is asked to go on; what the tokenizer puts before a
    text stands before the first. A passage that is too long loses what it begins with, as long as half of ``seq_len``
    is left of that, and then its end. The first token is never learnt, since nothing stands before it.

    Raises:
        DataError: no token of a passage is left to be learnt.
    """
    n, start = len(passages), _start(tokenizer)
    ids = np.full((n, seq_len), tokenizer.pad_token_id, dtype=np.int32)
    scored = np.zeros((n, seq_len), dtype=bool)
    lengths, n_cut = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int64)
    encoded = _encoded([segment.text for passage in passages for segment in passage], tokenizer)
    for row, passage in enumerate(passages):
        tokens, learnt = _joined(passage, encoded, tokenizer.eos_token_id)
        kept = _kept(learnt, seq_len - len(start))
        n_cut[row] = len(tokens) - len(kept)
        lengths[row] = len(start) + len(kept)
        ids[row, : lengths[row]] = [*start, *(tokens[place] for place in kept)]
        scored[row, len(start) : lengths[row]] = [learnt[place] for place in kept]
    scored[:, 0] = False
    nothing = np.flatnonzero(~scored.any(axis=1))
    if len(nothing):
        text = "".join(segment.text for segment in passages[nothing[0]])
        raise DataError(
            f"data.seq_len: no token is left to be learnt of {shown(text)!r} at {seq_len} tokens; give more, or remove "
            "texts of a single token"
        )
    cut = Cut(
        n_texts=n,
        n_texts_cut=int((n_cut > 0).sum()),
        n_tokens=int(lengths.sum()) - n * len(start) + int(n_cut.sum()),
        n_tokens_cut=int(n_cut.sum()),
    )
    return TokenData(input_ids=ids, lengths=lengths, labels=np.zeros(n, dtype=np.int64), scored=scored), cut


def _start(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text."""
    own = tokenizer("")["input_ids"]
    return [token for token in own if token != tokenizer.eos_token_id or token == tokenizer.bos_token_id][:1]


def _encoded(texts: Sequence[str], tokenizer: Any) -> Iterator[list[int]]:
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
