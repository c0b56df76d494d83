"""Reading finished, running, killed, empty and damaged runs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
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
    with pytest.raises(UserError, match=r"devices: a part is damaged.*part-00001"):
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
