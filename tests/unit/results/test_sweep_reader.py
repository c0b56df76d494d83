"""A sweep reads as one data set: rows of all runs, each with its run and its place on the axes."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import emulator
from emulator.errors import UserError
from emulator.results.reader import SweepFrames, load_run, load_sweep
from tests.made_runs import write_sweep

RUNS: dict[str, dict[str, Any]] = {
    "a-s0": {"accuracies": [0.1, 0.2]},
    "a-s1": {"accuracies": [0.3], "seed": 1, "status": "failed", "error": "a host died"},
    "a-s2": {},
}
AXES = {name: {"policy": "a", "seed": number, "training.batch_size": 8} for number, name in enumerate(RUNS)}


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFrames:
    return load_sweep(write_sweep(tmp_path / "study", RUNS, AXES))


def test_which_of_the_two_a_folder_is_follows_from_its_files(sweep: SweepFrames) -> None:
    assert isinstance(emulator.load(sweep.path), SweepFrames)
    assert emulator.load(sweep.path / "run=a-s0").rounds["accuracy"].tolist() == [0.1, 0.2]
    assert sweep.info["name"] == "study"


def test_tables_have_the_run_and_its_axes_in_front(sweep: SweepFrames) -> None:
    assert sweep.axes == ("policy", "seed", "training.batch_size")
    assert list(sweep.rounds.columns)[:5] == ["run", "policy", "seed", "training.batch_size", "round_index"]
    assert sweep.rounds["run"].tolist() == ["a-s0", "a-s0", "a-s1"]
    assert sweep.rounds["seed"].tolist() == [0, 0, 1]
    assert sweep.rounds["accuracy"].tolist() == [0.1, 0.2, 0.3]
    assert len(sweep.devices) == 6
    assert sweep.devices["ranks"].tolist()[0] == [8, 8]
    assert len(sweep.activities) == len(sweep.host) == 0
    assert sweep.activities.columns[0] == "run"


def test_no_run_is_left_out_of_the_index(sweep: SweepFrames) -> None:
    assert sweep.runs["status"].tolist() == ["finished", "failed", "planned"]
    assert sweep.runs["error"].tolist() == [None, "a host died", None]
    assert "3 runs, 1 finished, 1 failed, 1 planned" in repr(sweep)


def test_runs_tell_what_a_killed_sweep_could_not(sweep: SweepFrames) -> None:
    index = sweep.path / "index.parquet"
    stale = pq.read_table(index).set_column(1, "status", [["running", "planned", "planned"]])
    pq.write_table(stale.set_column(2, "error", pa.array([None] * 3, pa.string())), index)
    runs = load_sweep(sweep.path).runs
    assert runs["status"].tolist() == ["finished", "failed", "planned"]
    assert runs["error"].tolist() == [None, "a host died", None]


def test_some_columns_may_be_read_alone(sweep: SweepFrames) -> None:
    rows = sweep.read("rounds", ["accuracy", "run", "seed"])
    pd.testing.assert_frame_equal(rows, sweep.rounds[["accuracy", "run", "seed"]])


def test_one_run_is_read_by_its_name(sweep: SweepFrames) -> None:
    assert sweep.run("a-s1").info["error"] == "a host died"
    with pytest.raises(UserError, match="has no such run; did you mean a-s1"):
        sweep.run("a-s11")
    with pytest.raises(UserError, match="has not written anything yet: 'a-s2'"):
        sweep.run("a-s2")


def test_a_sweep_is_no_run_and_a_run_no_sweep(sweep: SweepFrames) -> None:
    with pytest.raises(UserError, match="a sweep, not a run"):
        load_run(sweep.path)
    with pytest.raises(UserError, match="not the folder of a sweep"):
        load_sweep(sweep.path / "run=a-s0")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([1, 2, 3], "got 1"),
        (["a-s0", "../study/run=a-s0", "a-s2"], "got '../study/run=a-s0'"),
        (["a-s0", None, "a-s2"], "got None"),
        (["a-s0", "a" * 300, "a-s2"], "got 'aaa"),
        (["a-s0", "a-s1", "a-s0"], "got several of 'a-s0'"),
    ],
)
def test_an_index_with_foreign_names_is_refused(sweep: SweepFrames, names: list[Any], expected: str) -> None:
    index = sweep.path / "index.parquet"
    pq.write_table(pq.read_table(index).set_column(0, "run", [names]), index)
    with pytest.raises(UserError, match=r"is damaged.*start the sweep again") as caught:
        load_sweep(sweep.path)
    assert expected in str(caught.value)


def test_a_sweep_without_an_index_or_with_a_damaged_one_is_refused(sweep: SweepFrames) -> None:
    index = sweep.path / "index.parquet"
    table = pq.read_table(index)
    pq.write_table(table.drop_columns(["status"]), index)
    with pytest.raises(UserError, match="has no column 'status'"):
        load_sweep(sweep.path)
    pq.write_table(table.set_column(1, "status", [["done"] * 3]), index)
    with pytest.raises(UserError, match="got 'done'"):
        load_sweep(sweep.path)
    index.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="is damaged"):
        load_sweep(sweep.path)
    index.unlink()
    with pytest.raises(UserError, match="without an index"):
        load_sweep(sweep.path)
    (sweep.path / "sweep.json").write_text("[]")
    with pytest.raises(UserError, match="not the description of a sweep"):
        load_sweep(sweep.path)
