"""Separators, quotes and header lines are found out; what cannot be right is refused with a way out."""

from pathlib import Path
from typing import Any

import pytest

from emulator.errors import DataError
from emulator.learning.data.tables import FileLayout
from emulator.learning.data.texts import TextData, load_data

ROWS = [(f"{'good' if i % 2 else 'bad'} film {i}, really", "pos" if i % 2 else "neg") for i in range(12)]


def loaded(folder: Path, name: str, content: str, **settings: Any) -> TextData:
    (folder / name).write_bytes(content.encode())
    return load_data(str(folder / name), test_fraction=0.25, **settings)


def texts(data: TextData) -> set[str]:
    return {*data.train_texts, *data.test_texts}


EXPECTED = {text for text, _ in ROWS}


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.txt", "DATA.CSV"])
def test_a_separator_is_found_by_the_names_of_the_columns(name: str, separator: str, tmp_path: Path) -> None:
    content = "\n".join(separator.join(row) for row in [("text", "label"), *ROWS])
    data = loaded(tmp_path, name, content)
    assert (texts(data), data.label_names) == (EXPECTED, ("neg", "pos"))


def test_a_separator_that_is_given_is_taken(tmp_path: Path) -> None:
    content = "\n".join(f"{label};{text}" for text, label in ROWS)
    data = loaded(tmp_path, "a.csv", content, text_column=1, label_column=0, layout=FileLayout(separator=";"))
    assert (texts(data), data.label_names) == (EXPECTED, ("neg", "pos"))


def test_a_text_that_became_the_label_is_refused_with_a_row(tmp_path: Path) -> None:
    content = "\n".join(f"{label};{text}" for text, label in ROWS)
    with pytest.raises(DataError, match=r"has 12 classes in 12 rows.*line 1 has .*'neg;bad film 0'.*data.separator"):
        loaded(tmp_path, "a.csv", content, text_column=1, label_column=0)


@pytest.mark.parametrize(
    ("cell", "text"), [('"he said ""so"" {}"', 'he said "so" {}'), ('"a\tb {}"', "a\tb {}"), ('"a\nb {}"', "a\nb {}")]
)
def test_quotes_of_a_tsv_that_needs_them_enclose_fields(cell: str, text: str, tmp_path: Path) -> None:
    content = "text\tlabel\n" + "".join(f"{cell.format(i)}\t{i % 2}\n" for i in range(12))
    assert texts(loaded(tmp_path, "a.tsv", content)) == {text.format(i) for i in range(12)}


def test_quotes_of_a_tsv_that_does_not_need_them_are_characters(tmp_path: Path) -> None:
    content = "text\tlabel\n" + "".join(f'"so" it goes {i}\t{i % 2}\n' for i in range(12))
    assert texts(loaded(tmp_path, "a.tsv", content)) == {f'"so" it goes {i}' for i in range(12)}


def test_a_quoted_header_behind_a_byte_order_mark_is_found(tmp_path: Path) -> None:
    content = '\ufeff"text"\t"label"\n' + "".join(f'"film {i}"\t"{i % 2}"\n' for i in range(12))
    data = loaded(tmp_path, "a.tsv", content)
    assert (texts(data), data.label_names) == ({f"film {i}" for i in range(12)}, ("0", "1"))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_header_that_would_be_a_row_is_refused(name: str, tmp_path: Path) -> None:
    between = "," if name == "a.csv" else "\t"
    content = f"sentence{between}label\n" + "".join(f"film {i}{between}{i % 2}\n" for i in range(12))
    with pytest.raises(DataError, match=r"the first line looks like a header, since 'label' stands nowhere else"):
        loaded(tmp_path, name, content, text_column=0, label_column=1)
    data = loaded(tmp_path, name, content, text_column=0, label_column=1, layout=FileLayout(header=True))
    assert data.label_names == ("0", "1")


def test_a_file_without_header_is_told_how_to_name_its_columns(tmp_path: Path) -> None:
    content = "".join(f"a good film, number {i}\t{i % 2}\n" for i in range(12))
    with pytest.raises(DataError, match=r"no header line: columns are then given by number"):
        loaded(tmp_path, "a.tsv", content)


def test_a_quote_that_is_never_closed_is_told_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 3: a quote is opened and never closed"):
        loaded(tmp_path, "a.csv", 'text,label\nfine,1\n"open,0\nmore,1\n')
