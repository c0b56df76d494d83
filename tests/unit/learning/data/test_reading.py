"""Files are found under every name, and no bytes end in anything but a sentence."""

import gzip
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.errors import DataError
from emulator.learning.data.texts import load_data
from tests.readers import refusal

FRAME = pd.DataFrame({"text": [f"film {i}" for i in range(12)], "label": ["neg", "pos"] * 6})


def test_compressed_text_and_arrays_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(FRAME.to_csv(index=False).encode()))
    FRAME.to_json(tmp_path / "a.json", orient="records")
    for name in ("a.csv.gz", "a.json"):
        assert load_data(str(tmp_path / name)).label_names == ("neg", "pos")


def test_an_array_in_a_file_of_lines_is_told_as_one(tmp_path: Path) -> None:
    FRAME.to_json(tmp_path / "a.jsonl", orient="records")
    with pytest.raises(DataError, match="is one JSON array; jsonl has one object on each line"):
        load_data(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("line", ["[1]", "5", "null", "NaN", "{broken"])
def test_a_line_that_is_no_object_is_told_by_its_number(line: str, tmp_path: Path) -> None:
    good = '{"text": "a", "label": 1}\n'
    (tmp_path / "a.jsonl").write_text(good * 5 + line + "\n" + good)
    with pytest.raises(DataError, match=r"line 6 is no (object|JSON)"):
        load_data(str(tmp_path / "a.jsonl"))


def test_half_a_character_is_told_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "\\ud800", "label": 0}\n')
    with pytest.raises(DataError, match=r"half of a character .* in line 2 of 'text'"):
        load_data(str(tmp_path / "a.jsonl"))


def test_lines_of_blanks_before_the_header_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n \n" + FRAME.to_csv(index=False))
    assert load_data(str(tmp_path / "a.csv")).label_names == ("neg", "pos")


def test_shards_of_a_folder_are_parts_by_their_names(tmp_path: Path) -> None:
    for name in ("train-0", "train-1", "test-0"):
        FRAME.assign(text=[f"{name} {i}" for i in range(12)]).to_parquet(tmp_path / f"{name}.parquet")
    data = load_data(str(tmp_path))
    assert (len(data.train_texts), set(data.test_texts)) == (24, {f"test-0 {i}" for i in range(12)})


def test_a_folder_in_which_some_files_are_parts_is_refused(tmp_path: Path) -> None:
    for name in ("train", "rest"):
        FRAME.to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match="some files are named as parts and others are not"):
        load_data(str(tmp_path))


@pytest.mark.parametrize(
    ("encoding", "said"), [("latin-1", "LATIN-1"), ("cp1252", "WINDOWS-1252"), ("utf-16", "UTF-16")]
)
def test_another_encoding_is_told_with_the_command_that_converts_it(encoding: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(f"text,label\ncafé{'’' if encoding == 'cp1252' else ''},1\n".encode(encoding))
    with pytest.raises(DataError, match=f"is not UTF-8 .*iconv -f {said} -t UTF-8"):
        load_data(str(tmp_path / "a.csv"))


def test_text_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(bytes(2**27)))
    with pytest.raises(DataError, match="unpacks to more than 64 MiB"):
        load_data(str(tmp_path / "a.csv.gz"))


def test_parquet_that_expands_without_end_is_refused(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array(["x" * 10_000] * 10_000), "label": pa.array([1] * 10_000)})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="expands to more than 64 MiB"):
        load_data(str(tmp_path / "a.parquet"))


def test_a_name_that_looks_like_a_path_is_never_asked_of_the_hub(tmp_path: Path) -> None:
    for name in ("./no/where", "/no/where", f"{tmp_path}/x", "a/b/c"):
        with pytest.raises(DataError, match="there is no file"):
            load_data(name)


PIECES = ["text", "label", ",", ";", "\t", "|", '"', '""', "\n", "\r\n", "\ufeff", "1", "0.0", "True", "é", " ", "\0"]
JSON_PIECES = ['{"text": "a", "label": 1}', "{", "}", "[", "]", "null", "NaN", "9" * 400, "\n", '"text"', ":", "1e400"]


def any_bytes(pieces: list[str]) -> st.SearchStrategy[bytes]:
    text = st.lists(st.sampled_from(pieces), max_size=60).map("".join)
    return text.map(str.encode) | text.map(lambda each: f"text,label\n{each}".encode()) | st.binary(max_size=300)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "jsonl", "json", "csv.gz", "parquet"])
def test_whatever_the_bytes_a_reader_reads_or_says_why_not(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    pq.write_table(pa.Table.from_pandas(FRAME), tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    # Half of what a Parquet reader is given is a file of which some bytes are others.
    edits = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=4)
    damaged = edits.map(lambda all_: bytes(dict(all_).get(i, byte) for i, byte in enumerate(whole)))
    contents = {"parquet": damaged | st.binary(max_size=300)}.get(
        suffix, any_bytes(JSON_PIECES if "json" in suffix else PIECES)
    )

    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(contents, st.booleans())
    def read(content: bytes, by_number: bool) -> None:
        path.write_bytes(gzip.compress(content) if suffix == "csv.gz" and by_number else content)
        text, label = (0, 1) if by_number else ("text", "label")
        said = refusal(lambda: load_data(str(path), text_column=text, label_column=label))
        assert "\n" not in (said or "")

    read()


LARGE = {
    "one long line": b"text,label\n" + b"a " * 10_000_000,
    "an open quote": b'text,label\n"' + b"a\n" * 5_000_000,
    "many fields": b"text,label\n" + b"," * 4_000_000,
    "many columns": b",".join(b"c%d" % number for number in range(300_000)) + b"\n",
    "many rows": b"text,label\n" + b"a,1\nb,2\n" * 300_000,
    "many classes": b"text,label\n" + b"".join(b"a,%d\n" % number for number in range(300_000)),
    "lists in lists": b"[" * 3_000_000,
    "tables in tables": b'{"text":' * 1_000_000,
    "a number of many digits": b'{"text": ' + b"9" * 5_000_000 + b"}",
    "empty lines": b"\n" * 10_000_000,
    "empty objects": b"{}\n" * 2_000_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("content", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "csv.gz", "parquet"])
def test_large_files_of_data_take_little_memory_and_time(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(content, 1) if suffix == "csv.gz" else content)
    refusal(lambda: load_data(str(path)))
