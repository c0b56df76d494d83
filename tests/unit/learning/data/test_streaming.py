"""Data sets that are streamed give the same rows, partition and tokens as those in memory, and hold little of it."""

import gzip
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import emulator
from emulator.errors import DataError
from emulator.learning.data import parts, token_parts
from emulator.learning.data.on_disk import ArrayOnDisk, DiskRows, kept_like, rows_of
from emulator.learning.data.source import DataSource
from emulator.learning.data.spread import Partition
from emulator.learning.data.tables import FileLayout
from emulator.learning.data.texts import load_data
from emulator.learning.prepare import prepare
from emulator.objective.base import Objective
from emulator.objective.causal import Causal
from emulator.objective.classification import Classification
from emulator.objective.multi_label import MultiLabel
from emulator.objective.regression import Regression
from tests.readers import refusal
from tests.unit.learning.tiny_decoders import CHAT_TEMPLATE, save_tiny_decoder

STREAMS, IN_MEMORY = FileLayout(streams=True), FileLayout(streams=False)
COLOURS = ("red", "green", "blue")


def rows(n: int) -> list[dict[str, Any]]:
    return [
        {
            "text": f"film {row} is {COLOURS[row % 3]}, said number {row * 7 % 11}",
            "other": f"and so is {row % 5}",
            "label": COLOURS[row % 3],
            "labels": list(COLOURS[: row % 4]),
            "number": row / 7,
            "prompt": f"which colour has film {row}",
            "options": list(COLOURS),
            "messages": [
                {"role": "user", "content": f"which colour has film {row}"},
                {"role": "assistant", "content": COLOURS[row % 3]},
            ],
            "owner": f"owner {row % 13}",
        }
        for row in range(n)
    ]


def write(folder: Path, suffix: str, n: int = 120) -> str:
    made, path = rows(n), folder / f"rows{suffix}"
    text = "".join(f"{json.dumps(row)}\n" for row in made)
    if suffix == ".parquet":
        pd.DataFrame(made).to_parquet(path, row_group_size=17)
    elif suffix == ".jsonl.gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("settings", [{}, {"text_pair_column": "other"}, {"n_train": 50, "owner_column": "owner"}])
def test_texts_and_labels_are_the_same(settings: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    source = write(tmp_path, suffix)
    expected, found = (load_data(source, layout=layout, **settings) for layout in (IN_MEMORY, STREAMS))
    assert isinstance(found.train_texts, DiskRows)
    assert list(found.train_texts) == list(expected.train_texts)
    assert list(found.test_texts) == list(expected.test_texts)
    assert np.array_equal(found.train_labels, expected.train_labels)
    assert np.array_equal(found.train_rows, expected.train_rows)
    assert (found.owners, found.label_names, found.columns, found.form, found.remarks) == (
        (expected.owners, expected.label_names, expected.columns, expected.form, expected.remarks)
    )


TASKS: dict[str, tuple[Objective, dict[str, Any]]] = {
    "classification": (Classification(), {}),
    "pairs": (Classification(), {"text_pair_column": "other"}),
    "multi_label": (MultiLabel(), {"label_column": "labels"}),
    "regression": (Regression(), {"label_column": "number"}),
    "text": (Causal(), {}),
    "prompts": (Causal(), {"prompt_column": "prompt", "response_column": "label", "template": "alpaca"}),
    "options": (Causal(), {"prompt_column": "prompt", "options_column": "options", "answer_column": "label"}),
    "chats": (Causal(), {"messages_column": "messages"}),
}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_task_gets_the_same_tokens_and_devices(
    task: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_parts, "PART_ROWS", 16)
    objective, columns = TASKS[task]
    is_causal = isinstance(objective, Causal)
    model = save_tiny_decoder("llama", tmp_path / "model", CHAT_TEMPLATE) if is_causal else "builtin:tiny-12"
    source = DataSource(source=write(tmp_path, suffix), **columns)

    def made(layout: FileLayout) -> tuple[Any, Any]:
        return prepare(
            train_model=model,
            data=replace(source, layout=layout),
            seq_len=64 if is_causal else 32,
            n_devices=5,
            partition=Partition(scheme="natural", column="owner"),
            run_seed=3,
            objective=objective,
            device_fraction=0.2,
        )

    (expected, of_memory), (found, of_disk) = made(IN_MEMORY), made(STREAMS)
    assert np.array_equal(found.offsets, expected.offsets)
    for part in ("train", "test"):
        for name in ("input_ids", "lengths", "labels", "scored", "token_types"):
            ours, theirs = getattr(getattr(found, part), name), getattr(getattr(expected, part), name)
            assert (ours is None) == (theirs is None)
            assert ours is None or (ours.dtype == theirs.dtype and np.array_equal(ours, theirs))
    assert isinstance(found.train.input_ids, np.memmap)
    assert np.array_equal(of_disk.label_histograms, of_memory.label_histograms)
    assert (of_disk.understood, of_disk.remarks) == (of_memory.understood, of_memory.remarks)


def test_a_run_has_the_same_bytes(tmp_path: Path) -> None:
    settings = {
        "data.source": write(tmp_path, ".parquet"),
        "rounds": 2,
        "testbed.n_devices": 3,
        "backend.kind": "inline",
        "training.local_steps": 2,
    }
    runs = [
        emulator.emulate({**settings, "data.streaming": streams}, tmp_path / f"run-{streams}")
        for streams in (False, True)
    ]
    for table in ("rounds", "devices"):
        pd.testing.assert_frame_equal(getattr(runs[0], table), getattr(runs[1], table))
    weights = {
        (tmp_path / f"run-{streams}/adapter/adapter_model.safetensors").read_bytes() for streams in (False, True)
    }
    assert len(weights) == 1


def test_shards_are_streamed_from_a_size_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train-0", "train-1"):
        pd.DataFrame(rows(30)).to_parquet(tmp_path / f"{name}.parquet")
    small = load_data(str(tmp_path))
    assert not isinstance(small.train_texts, DiskRows)
    monkeypatch.setattr(parts, "STREAMED_BYTES", 1000)
    large = load_data(str(tmp_path))
    assert isinstance(large.train_texts, DiskRows)
    assert list(large.train_texts) == list(small.train_texts)


def test_what_cannot_be_streamed_is_refused_and_never_streamed_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd.DataFrame(rows(30))[["text", "label"]].to_csv(tmp_path / "rows.csv", index=False)
    source = str(tmp_path / "rows.csv")
    assert "data.streaming is for .jsonl and .parquet files" in refusal(lambda: load_data(source, layout=STREAMS))
    monkeypatch.setattr(parts, "STREAMED_BYTES", 0)
    assert not isinstance(load_data(source).train_texts, DiskRows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"text": "a", "label": 1},\n{"text": "b", "label": 0}]\n', "is one JSON array"),
        ('{"text": "a", "label": 1}\n{broken\n', "line 2 is no JSON"),
        ('{"text": "a", "label": 1}\n{"text": "", "label": 0}\n', "an empty text in line 2"),
        ('{"text": "a", "label": 1}\n{"text": "b"}\n', "a missing label in line 2"),
        ('{"title": "a", "label": 1}\n', "has no column 'text'"),
        ("", "has no rows"),
    ],
)
def test_bad_files_are_told_as_without_streaming(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    for layout in (IN_MEMORY, STREAMS):
        assert message in refusal(lambda layout=layout: load_data(str(path), layout=layout))  # type: ignore[misc]


def test_bytes_that_are_no_text_are_told_by_their_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "a", "label": 1}\n{"text": "\xe9", "label": 0}\n')
    with pytest.raises(DataError, match=r"line 2 is not UTF-8, since it has the byte 0xe9"):
        load_data(str(tmp_path / "rows.jsonl"), layout=STREAMS)


def test_rows_on_disk_are_a_sequence() -> None:
    values = ["a", "", "\ud800", ("b", 1), [None, 2.5]]
    kept = DiskRows.of(iter(values))
    assert list(kept) == values
    assert [kept[row] for row in (4, -1, 0)] == [values[4], values[-1], values[0]]
    assert list(kept[1:3]) == values[1:3]
    assert list(rows_of(kept, np.array([3, 0]))) == [values[3], values[0]]
    assert rows_of(values, np.array([3, 0])) == [values[3], values[0]]
    assert isinstance(kept_like(kept, iter("ab")), DiskRows)
    assert kept_like(values, iter("ab")) == ["a", "b"]
    assert list(DiskRows.of(iter(()))) == []


def test_an_array_on_disk_is_what_was_written() -> None:
    array, written = ArrayOnDisk(5), np.arange(10, dtype=np.int32).reshape(5, 2)
    for part in (written[:3], written[3:]):
        array.append(part)
    assert np.array_equal(array.whole(), written)


def most_held_bytes(source: str, layout: FileLayout) -> int:
    tracemalloc.start()
    try:
        load_data(source, layout=layout)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_fraction_of_a_file_is_in_memory_at_once(suffix: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": [f"{row} " + "word " * 400 for row in range(2000)], "label": ["a", "b"] * 1000})
    path = tmp_path / f"rows{suffix}"
    frame.to_parquet(path, compression="none") if suffix == ".parquet" else frame.to_json(
        path, orient="records", lines=True
    )
    n_bytes = int(frame["text"].str.len().sum())
    assert most_held_bytes(str(path), IN_MEMORY) > n_bytes
    assert most_held_bytes(str(path), STREAMS) < n_bytes / 2


@pytest.mark.slow
def test_of_two_hundred_megabytes_a_tenth_is_in_memory_at_once(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for row in range(100_000):
            file.write(json.dumps({"text": f"{row} " + "word " * 400, "label": "ab"[row % 2]}) + "\n")
    assert path.stat().st_size > 200e6
    assert most_held_bytes(str(path), STREAMS) < path.stat().st_size / 10
