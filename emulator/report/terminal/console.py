"""The one way to a terminal: what is printed is text and no markup, and tables fit its width."""

import unicodedata
from dataclasses import replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table

LEAST_TEXT_WIDTH = 16
"""A column of text is never squeezed below this; numbers are never squeezed at all."""


def terminal(*, stderr: bool = False, width: int | None = None, plain: bool = False) -> Console:
    """A console on standard output or error. Names and paths in what it prints are never taken for markup or emoji.

    ``plain`` has no colours either, for what goes into a file.
    """
    return Console(
        stderr=stderr,
        width=width,
        markup=False,
        emoji=False,
        highlight=False,
        color_system=None if plain else "auto",
    )


def in_one_line(text: str) -> str:
    """``text`` with what would break its line, or turn its direction, written as an escape such as ``\\n``."""
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in kinds else each for each in text
    )


class FittedTable(Table):
    """A table that is cut into several, one below the other, where its columns do not fit side by side.

    The first column names the rows and comes with each of them.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for number, columns in enumerate(self._parts(console, options)):
            if number:
                yield ""
            yield from _with_columns(self, columns).__rich_console__(console, options)

    def _parts(self, console: Console, options: ConsoleOptions) -> list[list[Column]]:
        widths = [self._least_width(console, options, column) for column in self.columns]
        between = self._extra_width + len(self.columns)
        if sum(widths) + between <= options.max_width or len(self.columns) < 3:
            return [self.columns]
        parts: list[list[Column]] = []
        used = 0
        for column, width in zip(self.columns[1:], widths[1:], strict=True):
            if not parts or used + width > options.max_width:
                parts.append([self.columns[0]])
                used = widths[0] + self._extra_width + 2
            parts[-1].append(column)
            used += width + 1
        return parts

    def _least_width(self, console: Console, options: ConsoleOptions, column: Column) -> int:
        measured = self._measure_column(console, options.update(max_width=10_000), column)
        if column.no_wrap:
            return measured.maximum
        return min(measured.maximum, LEAST_TEXT_WIDTH + self.padding[1] + self.padding[3])


def _with_columns(table: Table, columns: list[Column]) -> Table:
    """The same rows with these columns alone."""
    part = Table(
        box=table.box,
        padding=table.padding,
        pad_edge=table.pad_edge,
        collapse_padding=table.collapse_padding,
        show_header=table.show_header,
        show_edge=table.show_edge,
        header_style=table.header_style,
    )
    part.columns = [
        replace(
            column,
            _index=index,
            min_width=None if column.no_wrap else LEAST_TEXT_WIDTH if _is_long(column) else None,
            overflow="fold" if not column.no_wrap else column.overflow,
        )
        for index, column in enumerate(columns)
    ]
    part.rows = table.rows
    return part


def _is_long(column: Column) -> bool:
    return any(len(str(cell)) >= LEAST_TEXT_WIDTH for cell in column.cells)
