"""Pieces of HTML. Every text that comes from a run is escaped here and nowhere else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class TableCell:
    """A cell of a table: its text, a remark in small print under it, and the classes that style.css knows."""

    text: str
    remark: str = ""
    look: str = ""


def table(headers: Sequence[str], rows: Iterable[Sequence[str | TableCell]], caption: str, n_text: int = 1) -> str:
    """A table whose first ``n_text`` columns are text and whose others are numbers; the first column heads its row."""
    looks = ["text" if column < n_text else "" for column in range(len(headers))]
    head = "".join(
        f"<th{_class(look)} scope='col'>{escape(text)}</th>" for text, look in zip(headers, looks, strict=True)
    )
    body = "".join(f"<tr>{_row(cells, looks)}</tr>\n" for cells in rows)
    return (
        f"<div class='scroll'><table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _row(cells: Sequence[str | TableCell], looks: Sequence[str]) -> str:
    parts = []
    for column, (given, look) in enumerate(zip(cells, looks, strict=True)):
        cell = given if isinstance(given, TableCell) else TableCell(given)
        remark = f"<small>{escape(cell.remark)}</small>" if cell.remark else ""
        opening = "th scope='row'" if column == 0 else "td"
        parts.append(
            f"<{opening}{_class(f'{look} {cell.look}'.strip())}>{escape(cell.text)}{remark}</{opening.split()[0]}>"
        )
    return "".join(parts)


def _class(look: str) -> str:
    return f" class='{look}'" if look else ""


def facts(entries: Iterable[tuple[str, str, str]]) -> str:
    """Large figures side by side: what, its value, a remark."""
    cells = (
        f"<div><dt>{escape(what)}</dt><dd>{escape(value)}<small>{escape(remark)}</small></dd></div>"
        for what, value, remark in entries
    )
    return f"<dl class='facts'>{''.join(cells)}</dl>"


def plot(kind: str, label: str, **options: str) -> str:
    """The place where the page draws; ``label`` tells those who cannot see it what it shows."""
    given = "".join(f" data-{name}='{escape(value)}'" for name, value in options.items())
    return f"<div data-figure='{kind}' role='img' aria-label='{escape(label)}'{given}></div>"


class Figures:
    """Numbers the figures of a page in the order in which they are made."""

    def __init__(self) -> None:
        self._n = 0

    def figure(self, content: str, title: str, caption: str) -> str:
        """A numbered figure; the caption says what one sees."""
        self._n += 1
        heading = f"<b>Figure {self._n}. {escape(title)}.</b>"
        return f"<figure>{content}<figcaption>{heading} {escape(caption)}</figcaption></figure>\n"


def section(name: str, title: str, content: str) -> str:
    """A section that the navigation can reach."""
    return f"<section id='{name}'><h2>{escape(title)}</h2>\n{content}</section>\n"


def counted(n: int, what: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def paragraph(text: str, look: str = "") -> str:
    """A paragraph."""
    return f"<p{_class(look)}>{escape(text)}</p>\n"


def notice(text: str, points: Iterable[str]) -> str:
    """A remark that must not be overlooked."""
    listed = "".join(f"<li>{escape(point)}</li>" for point in points)
    return f"<div class='notice'><p><b>{escape(text)}</b></p><ul>{listed}</ul></div>\n"


def folded(title: str, content: str) -> str:
    """Preformatted text under a line that opens it."""
    return f"<details><summary>{escape(title)}</summary><pre>{escape(content)}</pre></details>\n"
