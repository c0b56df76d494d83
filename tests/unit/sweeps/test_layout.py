"""The folder of a sweep is one dataset, partitioned by run, for everybody who reads Parquet."""

import json
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import emulator
from emulator.sweeps.execution import run_sweep
from tests.unit.sweeps.conftest import MakeSweep
from tests.unit.sweeps.silent import Silent

RUNS = ["policy-legend,seed-0", "policy-legend,seed-1", "policy-fedlora-rank-4,seed-0", "policy-fedlora-rank-4,seed-1"]


@pytest.fixture
def folder(make_sweep: MakeSweep, tmp_path: Path) -> Path:
    run_sweep(make_sweep(), tmp_path / "out", Silent())
    return tmp_path / "out"


@pytest.mark.parametrize("table", ["rounds", "devices", "activities"])
def test_pyarrow_pandas_and_duckdb_read_all_runs_as_one_table(folder: Path, table: str) -> None:
    parts = sorted(map(str, folder.glob(f"run=*/{table}/*.parquet")))
    arrow = ds.dataset(parts, partitioning="hive").to_table().to_pandas()
    pandas = pd.read_parquet(parts, partitioning="hive")
    query = f"select * from read_parquet('{folder}/run=*/{table}/*.parquet', hive_partitioning = true)"
    by_duckdb = duckdb.sql(query).df()

    expected = {name: len(getattr(emulator.load(folder / f"run={name}"), table)) for name in RUNS}
    for frame in (arrow, pandas, by_duckdb):
        assert frame.groupby(frame["run"].astype(str)).size().to_dict() == expected


def test_the_index_has_a_row_for_each_run_and_a_column_for_each_axis(folder: Path) -> None:
    index = pq.read_table(folder / "index.parquet").to_pandas()

    assert index["run"].tolist() == RUNS
    assert index["status"].tolist() == ["finished"] * 4
    assert index["error"].isna().all()
    assert index["n_rounds"].tolist() == [2] * 4
    assert (index["wall_s"] > 0).all()
    assert index["policy"].tolist() == ["legend", "legend", "fedlora(rank=4)", "fedlora(rank=4)"]
    assert index["seed"].tolist() == [0, 1, 0, 1]


def test_sweep_json_says_what_every_run_is(folder: Path) -> None:
    described = json.loads((folder / "sweep.json").read_text())

    assert described["name"] == "study"
    assert described["axes"] == {"policy": ["legend", {"path": "fedlora", "rank": 4}], "seed": [0, 1]}
    assert [run["run"] for run in described["runs"]] == RUNS
    assert described["runs"][2]["values"] == {"policy": {"path": "fedlora", "rank": 4}, "seed": 0}
    assert described["runs"][2]["axes"] == {"policy": "fedlora(rank=4)", "seed": 0}
    assert (described["base"]["rounds"], described["base"]["testbed"]["n_devices"]) == (2, 8)
    for name in RUNS:
        info = json.loads((folder / f"run={name}" / "run.json").read_text())
        assert info["status"] == "finished"
