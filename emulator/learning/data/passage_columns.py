"""Which columns the rows of a language model's data set are made of."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from emulator.errors import DataError
from emulator.learning.data.chat import conversation_of
from emulator.learning.data.on_disk import kept_like
from emulator.learning.data.options import choice_of
from emulator.learning.data.segments import Row, Segment, response_to
from emulator.learning.data.source import DataSource
from emulator.learning.data.tables import CellError, Column, TextTable, shown
from emulator.learning.data.template import Template, template_of

Made = TypeVar("Made")


class PassageColumns(ABC):
    """Makes rows of a table.

    Attributes:
        settings: those by which columns are chosen, for messages.
        what: what the rows are, in words.
    """

    settings: ClassVar[str]
    what: ClassVar[str]

    @property
    @abstractmethod
    def wanted(self) -> tuple[Column, ...]:
        """The columns that are read."""

    @abstractmethod
    def rows(self, table: TextTable, source: str, key: str) -> Sequence[Row]:
        """The rows of ``table``, which was read from ``source``, the value of the setting ``key``; on disk where its
        values are.

        Raises:
            DataError: there is none, or a cell cannot be used.
        """


@dataclass(frozen=True, slots=True)
class PlainTexts(PassageColumns):
    """All of a text is learnt."""

    column: Column

    settings = "data.text_column, or data.prompt_column and data.response_column"
    what = "texts"

    @property
    def wanted(self) -> tuple[Column, ...]:
        return (self.column,)

    def rows(self, table: TextTable, source: str, key: str) -> Sequence[Row]:
        texts = texts_of(table, self.column, source, key, "an empty text")
        return kept_like(texts, ((Segment(text, True),) for text in texts))


@dataclass(frozen=True, slots=True)
class Responses(PassageColumns):
    """A prompt, put into a template, is given; the response is learnt."""

    prompt: Column
    response: Column
    template: Template

    settings = "data.prompt_column and data.response_column"
    what = "responses to prompts"

    @property
    def wanted(self) -> tuple[Column, ...]:
        return _distinct(self.prompt, self.response, *self.template.columns)

    def rows(self, table: TextTable, source: str, key: str) -> Sequence[Row]:
        prompts = filled_prompts(table, self.prompt, self.template, source, key)
        responses = texts_of(table, self.response, source, key, "a missing response")
        pairs = zip(prompts, responses, strict=True)
        return kept_like(prompts, (response_to(given, said, ends=True) for given, said in pairs))


@dataclass(frozen=True, slots=True)
class Options(PassageColumns):
    """A prompt, put into a template, is given; the right one of several options is learnt."""

    prompt: Column
    options: tuple[Column, ...]
    answer: Column
    template: Template

    settings = "data.prompt_column, data.options_column and data.answer_column"
    what = "choices"

    @property
    def wanted(self) -> tuple[Column, ...]:
        return _distinct(self.prompt, *self.options, self.answer, *self.template.columns)

    def rows(self, table: TextTable, source: str, key: str) -> Sequence[Row]:
        prompts = filled_prompts(table, self.prompt, self.template, source, key)
        columns = [table.values[name] for name in self.options]
        cells = columns[0] if len(columns) == 1 else kept_like(columns[0], map(list, zip(*columns, strict=True)))
        named = ", ".join(map(repr, self.options))

        def choice(row: int) -> Row:
            return choice_of(prompts[row], cells[row], table.values[self.answer][row])

        return kept_like(prompts, _each(table, f"{named} and {self.answer!r}", source, key, choice))


@dataclass(frozen=True, slots=True)
class Chats(PassageColumns):
    """What an assistant says in a chat is learnt."""

    column: Column

    settings = "data.messages_column"
    what = "chats"

    @property
    def wanted(self) -> tuple[Column, ...]:
        return (self.column,)

    def rows(self, table: TextTable, source: str, key: str) -> Sequence[Row]:
        _check_rows(table, source, key)
        cells = table.values[self.column]
        made = _each(table, repr(self.column), source, key, lambda row: conversation_of(cells[row]))
        return kept_like(cells, made)


def columns_of(data: DataSource) -> PassageColumns:
    """The columns that the settings of ``data`` name.

    Raises:
        DataError: they do not go together, or a template has no place for the prompt.
    """
    if data.messages_column is not None:
        return _chats(data, data.messages_column)
    prompt = data.prompt_column
    if data.options_column is not None or data.answer_column is not None:
        return _options(data)
    if prompt is None and data.response_column is None:
        if data.template:
            raise DataError(
                f"data.template puts a prompt into words, and there is none: give data.prompt_column and "
                f"data.response_column, got the template {shown(data.template)!r}"
            )
        return PlainTexts(data.text_column)
    if prompt is None or data.response_column is None:
        given, lacking = ("prompt", "response") if data.response_column is None else ("response", "prompt")
        raise DataError(
            f"data.{given}_column is given and data.{lacking}_column is not; give both, or data.text_column for plain "
            "texts"
        )
    if prompt == data.response_column:
        raise DataError(
            f"data.prompt_column and data.response_column must be two different columns, got {prompt!r} for both"
        )
    return Responses(prompt, data.response_column, template_of(data.template))


def check_answers(data: DataSource) -> None:
    """Check that the settings of ``data`` name prompts, and what is to be said to them.

    Raises:
        DataError: they name chats, plain texts, or what does not go together.
    """
    if data.messages_column is not None:
        raise DataError(
            "data.messages_column: for task.kind = 'seq2seq' rows are a prompt and its response, and no chats; give "
            f"data.prompt_column and data.response_column, got {data.messages_column!r}"
        )
    if isinstance(columns_of(data), PlainTexts):
        raise DataError(
            "data.prompt_column and data.response_column are not given; task.kind = 'seq2seq' learns responses to "
            "prompts, so give both"
        )


def _chats(data: DataSource, column: Column) -> Chats:
    for key in ("prompt_column", "response_column", "options_column", "answer_column", "template"):
        if getattr(data, key) is not None:
            raise DataError(
                f"data.messages_column and data.{key} exclude one another, since the model's own chat template puts "
                f"messages into words; leave out one of them, got {getattr(data, key)!r}"
            )
    return Chats(column)


def _options(data: DataSource) -> Options:
    prompt, options, answer = data.prompt_column, data.options_column, data.answer_column
    if prompt is None or options is None or answer is None:
        lacking = "prompt" if prompt is None else "options" if options is None else "answer"
        raise DataError(
            f"data.{lacking}_column is not given; multiple choice takes data.prompt_column, data.options_column and "
            "data.answer_column together"
        )
    if data.response_column is not None:
        raise DataError(
            "data.response_column and data.options_column exclude one another; leave out one of them, got "
            f"{data.response_column!r} and {options!r}"
        )
    several = options if isinstance(options, tuple) else (options,)
    if answer in several or prompt in (*several, answer):
        raise DataError(
            "data.prompt_column, data.options_column and data.answer_column must be different columns, got "
            f"{prompt!r}, {options!r} and {answer!r}"
        )
    return Options(prompt, several, answer, template_of(data.template))


def filled_prompts(table: TextTable, prompt: Column, template: Template, source: str, key: str) -> Sequence[str]:
    """The prompts of a table in the words of ``template``.

    Raises:
        DataError: a prompt is empty or no plain value.
    """
    prompts = texts_of(table, prompt, source, key, "an empty prompt")
    others = {name: table.values[name] for name in template.columns}
    filled = (
        template.filled(text, {name: as_text(values[row]) for name, values in others.items()})
        for row, text in enumerate(prompts)
    )
    return kept_like(prompts, filled)


def texts_of(table: TextTable, column: Column, source: str, key: str, what: str) -> Sequence[str]:
    """The texts of a column, none of them empty; ``what`` an empty one is called.

    Raises:
        DataError: there is no row, or a cell is empty or no plain value.
    """
    _check_rows(table, source, key)
    cells = table.values[column]

    def texts() -> Iterator[str]:
        for place, value in zip(table.places, cells, strict=True):
            if isinstance(value, list | tuple | dict | set | np.ndarray | bytes):
                raise DataError(
                    f"{key}: {source!r} has a {type(value).__name__} in {table.place} {place} of {column!r}; texts must"
                    " be strings"
                )
            text = as_text(value)
            if not text.strip():
                raise DataError(
                    f"{key}: {source!r} has {what} in {table.place} {place} of {column!r}; remove such rows"
                )
            yield text

    return kept_like(cells, texts())


def as_text(value: Any) -> str:
    """A cell as text; empty where it is missing."""
    return "" if value is None or (isinstance(value, float) and value != value) else str(value)


def _check_rows(table: TextTable, source: str, key: str) -> None:
    if not len(table.places):
        raise DataError(f"{key}: {source!r} has no rows; give a data set with at least two")


def _each(table: TextTable, named: str, source: str, key: str, make: Callable[[int], Made]) -> Iterator[Made]:
    """What ``make`` makes of each row; ``named`` are the columns that it looks at."""
    for row, place in enumerate(table.places):
        try:
            yield make(row)
        except CellError as error:
            raise error.of(source, key, f"{table.place} {place} of {named}") from None


def _distinct(*columns: Column) -> tuple[Column, ...]:
    return tuple(dict.fromkeys(columns))
