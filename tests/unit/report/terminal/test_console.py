"""What is printed is text, and tables fit the terminal they are printed on."""

import io
import re

import pytest
from rich import box
from rich.console import Console
from rich.table import Column

from emulator.report.terminal.console import LEAST_TEXT_WIDTH, FittedTable, in_one_line, terminal

NAME = "policy=mine,alpha=0.5,testbed.cluster=a-cluster-with-quite-a-long-name"
N_NUMBERS = 9


def shown(table: FittedTable, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), markup=False, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def numbers_by_name() -> FittedTable:
    columns = (Column(f"header {number}", no_wrap=True, justify="right") for number in range(N_NUMBERS))
    table = FittedTable(Column("group", overflow="fold"), *columns, box=None)
    table.add_row(NAME, *(f"12345.{number}" for number in range(N_NUMBERS)))
    return table


@pytest.mark.parametrize("width", range(60, 201, 20))
def test_no_number_and_no_letter_is_lost_at_any_width(width: int) -> None:
    text = shown(numbers_by_name(), width)

    assert all(f"12345.{number}" in text and f"header {number}" in text for number in range(N_NUMBERS))
    assert max(map(len, text.splitlines())) <= width
    part = text.split("\n \n")[0].splitlines()
    assert "".join(re.split(r"\s{2,}", line.strip())[0] for line in part[1:]).startswith(NAME)


def test_every_part_of_a_table_names_its_rows() -> None:
    text = shown(numbers_by_name(), 60)

    assert text.count("group") == text.count(NAME[: LEAST_TEXT_WIDTH - 1]) > 1


def test_a_table_that_fits_is_one_table() -> None:
    assert shown(numbers_by_name(), 200).count("group") == 1


def test_prose_is_folded_rather_than_cut() -> None:
    table = FittedTable("figure", "source", box=box.SIMPLE_HEAD)
    table.add_row("dispatch_us", "word " * 40)

    assert shown(table, 60).count("word") == 40


@pytest.mark.parametrize("name", ["a[b]", "a[/b]", "[bold]x[/]", ":smile:", "[link=x]y[/link]"])
def test_names_are_no_markup(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal().print(f"results: {name}")
    table = FittedTable("group", name)
    table.add_row(name, name)
    terminal().print(table)

    assert capsys.readouterr().out.count(name) == 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine(note='a\nb')", r"mine(note='a\nb')"),
        ("tab\there", r"tab\there"),
        ("\u202egnirts", r"\u202egnirts"),
        ("gerät\u00a0→ 5 µs", "gerät\u00a0→ 5 µs"),
    ],
    ids=["line", "tab", "direction", "letters"],
)
def test_a_name_breaks_no_line_and_turns_none(name: str, said: str) -> None:
    assert in_one_line(name) == said
