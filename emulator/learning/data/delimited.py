"""Reads text whose fields are separated, such as csv and tsv, and finds out how it is laid out."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from emulator.errors import DataError
from emulator.learning.data.tables import Column, FileLayout, TextTable, missing_column, shown

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
"""Those that are found out, with their names."""
LEAST_ROWS = 4
"""From so many rows on a first cell that nothing repeats, among cells that are all repeated, is taken for a name."""
N_LOOKED_AT = 200
"""Rows by which a separator is told, where columns are given by number."""

Row = tuple[int, list[str]]
"""The line on which a row begins, and its fields."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A separator, whether quotes enclose fields, and whether a stray quote is an error."""

    separator: str
    is_quoted: bool
    strict: bool = False

    def rows(self, text: str) -> Iterator[Row]:
        """The rows of ``text`` that are not blank.

        Raises:
            csv.Error: a quote is not closed, or a field has more characters than the csv module takes.
        """
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=self.separator,
            quoting=csv.QUOTE_MINIMAL if self.is_quoted else csv.QUOTE_NONE,
            strict=self.strict,
        )
        line = 1
        try:
            for fields in reader:
                if any(fields) and not (len(fields) == 1 and fields[0].isspace()):
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            raise csv.Error(f"line {line}: {error}") from None

    def __str__(self) -> str:
        quotes = "quotes enclose fields" if self.is_quoted else "quotes are characters"
        return f"separated by {SEPARATORS.get(self.separator, repr(self.separator))}, {quotes}"


def read_delimited(text: str, where: str, wanted: Sequence[Column], layout: FileLayout, suffix: str) -> TextTable:
    """The columns ``wanted`` of a delimited ``text``.

    Args:
        text: the whole file.
        where: with which messages begin.
        wanted: names in the header line; or numbers.
        layout: what is known of it; the rest is found out.
        suffix: ``.csv``, ``.tsv`` or ``.txt``; for the separator that is tried first.

    Raises:
        DataError: there is no such column, rows have more fields than the first, or a quote is not closed.
    """
    nothing = TextTable(columns=(), values={name: [] for name in wanted}, places=(), place="line", form=suffix[1:])
    if not text.strip():
        return nothing
    by_number = all(isinstance(column, int) for column in wanted)
    if not by_number and any(isinstance(column, int) for column in wanted):
        raise DataError(f"{where}: give both columns by name, or both by number, got {', '.join(map(repr, wanted))}")
    try:
        dialect = _dialect(text, wanted if not by_number else (), layout, suffix)
        rows = dialect.rows(text)
        first_line, first = next(rows, (0, []))
        if not first:
            return nothing
        names = tuple(cell.strip() for cell in first)
        if by_number:
            columns: tuple[Column, ...] = tuple(range(len(first)))
            has_header = layout.header is True
            rows = rows if has_header else _behind((first_line, first), rows)
        else:
            columns, has_header = names, True
            if layout.header is False:
                raise DataError(f"{where}: give the columns by number, counted from 0, where data.header is false")
        for column in wanted:
            if column not in columns:
                raise missing_column(where, column, columns, _advice(text, dialect, names, by_number))
            if not by_number and names.count(str(column)) > 1:
                raise DataError(f"{where} has more than one column {column!r}; rename one of them")
        places, values = _taken(rows, [columns.index(column) for column in wanted], len(columns), where, has_header)
    except csv.Error as error:
        raise DataError(f"{where}: cannot be read as {suffix[1:]}: {_explained(str(error))}") from None
    table = TextTable(
        columns=columns,
        values=dict(zip(wanted, values, strict=True)),
        places=places,
        place="line",
        form=f"{suffix[1:]}, {dialect}, {'a header line' if has_header else 'no header line'}",
    )
    if by_number and layout.header is None:
        _check_first(table, where)
    return table


def _behind(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _taken(
    rows: Iterator[Row], indices: Sequence[int], n_columns: int, where: str, has_header: bool
) -> tuple[list[int], list[list[str | None]]]:
    places: list[int] = []
    values: list[list[str | None]] = [[] for _ in indices]
    for line, fields in rows:
        if len(fields) > n_columns and any(fields[n_columns:]):
            named = "its header line names" if has_header else "its first line has"
            raise DataError(
                f"{where} has rows with more fields than {named}: line {line} has {len(fields)} instead of {n_columns};"
                " quote texts that contain the separator, or set data.separator or data.quoting"
            )
        places.append(line)
        for own, index in zip(values, indices, strict=True):
            own.append(fields[index] if index < len(fields) else None)
    return places, values


def _dialect(text: str, names: Sequence[Column], layout: FileLayout, suffix: str) -> Dialect:
    """The dialect under which the first line has ``names``; without them, under which rows are of one length."""
    usual = "\t" if suffix == ".tsv" else ","
    separators = [layout.separator] if layout.separator else [usual, *(each for each in SEPARATORS if each != usual)]
    best: Dialect | None = None
    for separator in separators:
        if layout.separator is None and separator != usual and separator not in text:
            continue
        dialect = _quoting(text, separator, layout.is_quoted)
        best = best or dialect
        try:
            rows = [fields for _, fields in islice(dialect.rows(text), 1 if names else N_LOOKED_AT)]
        except csv.Error:
            continue
        if not rows:
            continue
        if names and set(names) <= {cell.strip() for cell in rows[0]}:
            return dialect
        if not names and len(rows[0]) > 1 and len({len(fields) for fields in rows}) == 1:
            return dialect
    assert best is not None
    return best


def _quoting(text: str, separator: str, given: bool | None) -> Dialect:
    """Whether quotes enclose fields. Where tabs separate, only if that is sure: many such files know no quotes."""
    is_quoted = given
    if '"' not in text:
        return Dialect(separator, is_quoted if is_quoted is not None else separator != "\t")
    if is_quoted is False:
        return Dialect(separator, False)
    strict = Dialect(separator, True, strict=True)
    needs_quotes, lengths = _is_all_quoted(text, separator), set()
    try:
        for _, fields in strict.rows(text):
            lengths.add(len(fields))
            needs_quotes = needs_quotes or any('"' in cell or separator in cell or "\n" in cell for cell in fields)
    except csv.Error as error:
        if separator == "\t" and given is None:
            return Dialect(separator, False)
        # A stray quote within a field is a character; one that is never closed is a mistake.
        is_stray = "expected after" in str(error)
        return Dialect(separator, True) if is_stray else strict
    if separator == "\t" and given is None:
        return strict if needs_quotes and len(lengths) == 1 else Dialect(separator, False)
    return strict


def _is_all_quoted(text: str, separator: str) -> bool:
    cells = text.lstrip().partition("\n")[0].rstrip("\r").split(separator)
    return all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)


def _advice(text: str, dialect: Dialect, first: Sequence[str], by_number: bool) -> str:
    """What may be wrong where a column is not in the first line."""
    if by_number:
        return "; columns are counted from 0, and data.separator says what is between them"
    if len(first) < 2:
        others = [name for each, name in SEPARATORS.items() if each != dialect.separator and each in first[0]]
        if others:
            return f"; it may be separated by {others[0]}: set data.separator"
    second = [fields for _, fields in islice(dialect.rows(text), 1, 2)]
    if any(_is_number(cell) or len(cell.split()) > 3 for cell in first) or (second and second[0] == list(first)):
        return (
            "; its first line seems to be no header line: columns are then given by number, such as "
            "data.text_column = 0 and data.label_column = 1"
        )
    return ""


def _check_first(table: TextTable, where: str) -> None:
    """A header line is no row: it is one where, in some column, its cell alone is of another kind than all others."""
    for column, cells in table.values.items() if table.places else ():
        first, rest = cells[0] or "", [cell or "" for cell in cells[1:]]
        if len(rest) < 2 or first in rest or not re.fullmatch(r"[^\W\d][\w .-]{0,39}", first.strip()):
            continue
        others_repeat = len(rest) >= LEAST_ROWS and min(Counter(rest).values()) > 1
        if all(map(_is_number, rest)) or others_repeat:
            raise DataError(
                f"{where}: the first line looks like a header, since {shown(first)!r} stands nowhere else in column "
                f"{column}; give the columns by name, or set data.header to true (to leave it out) or false (if it is "
                "a row)"
            )


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", text) is not None


def _explained(error: str) -> str:
    advice = "; close it, or set data.quoting = 'none' where quotes are characters like others"
    if "unexpected end" in error:
        return f"{error.partition(':')[0]}: a quote is opened and never closed{advice}"
    if "field limit" in error:
        most = f"{csv.field_size_limit():,}"
        return f"{error.partition(':')[0]}: a field has more than {most} characters, or a quote is not closed{advice}"
    return error
