"""Reading finished, running, killed, empty and damaged runs."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

import emulator
from emulator.errors import UserError
from emulator.results.reader import RunFrames, load
from emulator.results.writer import RunWriter

FRAMES = ("rounds", "devices", "activities", "host")


def test_what_was_written_is_read(frames: RunFrames) -> None:
    assert frames.info["policy"] == "by-hand"
    assert frames.rounds["end_s"].tolist() == [20.0, 40.0, 60.0]
    assert frames.rounds["accuracy"].isna().tolist() == [False, True, False]
    assert len(frames.devices) == 3 * 4
    # Devices 0 to 2 have 3, 4 and 4 activities in each round, device 3 has 1, 2 and 1.
    assert len(frames.activities) == 3 * 11 + 4
    assert len(frames.host) == 3 * 4


def test_nested_columns_are_python_values(frames: RunFrames) -> None:
    assert frames.devices["ranks"].tolist()[:4] == [[0, 8], [0, 8], [0, 8], []]
    assert frames.devices["metrics"].tolist()[2:4] == [{"grad_norm": 0.5}, {}]


def test_units_are_those_of_the_schema(frames: RunFrames) -> None:
    units = frames.units("devices")
    assert list(units) == list(frames.devices.columns)
    assert (units["compute_s"], units["energy_j"], units["profile"]) == ("s", "J", "")


def test_rows_are_in_the_order_of_rounds_and_devices(tmp_path: Path, round_tables: Any) -> None:
    writer = RunWriter(tmp_path / "run")
    writer.open({})
    for table, columns in round_tables(0).items():
        writer.write(table, {name: values[::-1] for name, values in columns.items()})
    writer.close("finished")
    frames = load(tmp_path / "run")
    assert frames.devices["device_id"].tolist() == [0, 1, 2, 3]
    assert frames.activities["kind"].tolist()[:4] == ["download", "compute", "upload", "download"]
    assert frames.host["phase"].tolist() == ["round", "evaluate", "train", "train"]


def test_a_run_without_parts_gives_empty_frames_of_the_same_types(tmp_path: Path, frames: RunFrames) -> None:
    writer = RunWriter(tmp_path / "new")
    writer.open({})
    empty = load(tmp_path / "new")
    for name in FRAMES:
        assert len(getattr(empty, name)) == 0
        pd.testing.assert_series_equal(getattr(empty, name).dtypes, getattr(frames, name).dtypes)


def test_a_killed_run_gives_the_rounds_that_were_done(tmp_path: Path, round_tables: Any) -> None:
    writer = RunWriter(tmp_path / "run")
    writer.open({})
    for table, columns in round_tables(0).items():
        writer.write(table, columns)
    # The process dies before the row of round 1 is in rounds, and while it writes a part.
    writer.write("activities", round_tables(1)["activities"])
    writer.write("devices", round_tables(1)["devices"])
    (tmp_path / "run/rounds/.part-00001.parquet.tmp").write_bytes(b"PAR1 half a f")
    frames = load(tmp_path / "run")
    assert frames.info["status"] == "running"
    assert [set(getattr(frames, name)["round_index"]) for name in FRAMES] == [{0}] * 4


def test_other_readers_ignore_the_leftover_of_a_kill_too(run_dir: Path) -> None:
    (run_dir / "rounds/.part-00003.parquet.tmp").write_bytes(b"PAR1 half a f")
    assert len(pd.read_parquet(run_dir / "rounds")) == 3


@pytest.mark.parametrize("folder", ["missing", "empty", "file"])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"not the folder of a run.*{folder}"):
        load(tmp_path / folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read"), ("[]", "no schema_version"), ("{}", "no schema_version")],
)
def test_a_run_json_of_something_else_is_refused(run_dir: Path, text: str, message: str) -> None:
    (run_dir / "run.json").write_text(text)
    with pytest.raises(UserError, match=message):
        load(run_dir)


def test_a_run_of_a_later_version_is_refused(run_dir: Path) -> None:
    info = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps(info | {"schema_version": 99}))
    with pytest.raises(UserError, match=r"later version.*99"):
        load(run_dir)


def test_a_damaged_part_is_named(run_dir: Path) -> None:
    (run_dir / "devices/part-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        UserError, match=r"devices: a part is damaged; remove the folder of this run.*again: .*part-00001"
    ):
        _ = load(run_dir).devices


def test_load_is_offered_by_the_package(write_run: Callable[..., Path], tmp_path: Path) -> None:
    assert emulator.load(write_run(tmp_path / "run")).info["seed"] == 7
    assert "load" in dir(emulator)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = emulator.nothing_like_it


def test_importing_the_package_imports_no_heavy_library() -> None:
    heavy = "{'pandas', 'pyarrow', 'numpy', 'rich', 'torch', 'ray'} & set(sys.modules)"
    code = f"import sys, emulator, emulator.results; assert not {heavy}, {heavy}"
    subprocess.run([sys.executable, "-c", code], check=True)


def without_column(part: Path, name: str) -> None:
    pq.write_table(pq.read_table(part).drop_columns([name]), part)


def test_a_column_that_runs_of_an_earlier_version_lack_is_null(run_dir: Path) -> None:
    for part in (run_dir / "devices").glob("*.parquet"):
        without_column(part, "work_flop")
    assert load(run_dir).devices["work_flop"].isna().all()


@pytest.mark.parametrize(("table", "column"), [("devices", "work_flop"), ("rounds", "energy_j")])
def test_a_part_that_lacks_a_column_is_damaged(run_dir: Path, table: str, column: str) -> None:
    without_column(run_dir / table / "part-00001.parquet", column)
    with pytest.raises(UserError, match=f"{table}: a part is damaged; remove .* again: {column} is missing"):
        getattr(load(run_dir), table)


def test_some_columns_are_read_in_the_order_of_all(run_dir: Path) -> None:
    run = load(run_dir)
    some = run.read("devices", ["status", "device_id"])
    assert list(some.columns) == ["status", "device_id"]
    pd.testing.assert_frame_equal(some, run.devices[["status", "device_id"]])
    pd.testing.assert_frame_equal(run.read("devices", ["status", "device_id"]), some)


def test_a_replaced_table_is_read_as_it_is(frames: RunFrames) -> None:
    other = frames.replaced(rounds=frames.rounds.iloc[:1])
    assert len(other.rounds) == len(other.read("rounds", ["end_s"])) == 1
    assert len(frames.rounds) == 3
    assert len(other.devices) == len(frames.devices)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("status", "done", "status must be one of running, finished, failed, interrupted, got 'done'"),
        ("status", None, "has no status"),
        ("policy", 5, "policy must be a text, got 5"),
        ("seed", "0", "seed must be an integer, got '0'"),
        ("seed", True, "seed must be an integer, got True"),
        ("seed", 2**63, "seed must be an integer"),
        ("majority_accuracy", [0.5], "majority_accuracy must be a number"),
        ("wall_s", "long", "wall_s must be a number"),
        ("error", {}, "error must be a text"),
        ("config", [], "config must be a table"),
        ("link_sha256", "ab", "link_sha256 must be a table"),
        ("outside_known_range", [], "outside_known_range must be a table"),
        ("label_names", ["yes", 1], "label_names must be a list of texts"),
        ("schema_version", True, "no schema_version"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(run_dir: Path, key: str, value: Any, message: str) -> None:
    info = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps(info | {key: value}))
    with pytest.raises(UserError, match=f"run.json: .*{re.escape(message)}"):
        load(run_dir)


@pytest.mark.parametrize("text", ['{"schema_version": 1, "wall_s": NaN}', "[" * 100_000, '{"wall_s": 1e999}', "\x00"])
def test_what_is_no_number_or_no_json_is_refused(run_dir: Path, text: str) -> None:
    (run_dir / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run.json"):
        load(run_dir)
