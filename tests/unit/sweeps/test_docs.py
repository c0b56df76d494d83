"""What docs/sweeps.md shows works as it is shown."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import emulator
from emulator.sweeps.execution import run_sweep
from emulator.sweeps.expansion import check_runs, expand
from emulator.sweeps.spec import read_spec
from tests.unit.sweeps.conftest import MakeSweep
from tests.unit.sweeps.silent import Silent

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_sweep_file_comes_to_the_runs_that_the_page_says(tmp_path: Path) -> None:
    [text] = blocks("toml")
    (tmp_path / "experiment.toml").write_text("training.batch_size = 2\n")
    (tmp_path / "mine.toml").write_text('inherits = "jetson80"\n')
    (tmp_path / "depths.toml").write_text(text.replace("clusters/mine.toml", str(tmp_path / "mine.toml")))
    sweep = expand(read_spec(tmp_path / "depths.toml"))
    check_runs(sweep)

    assert len(sweep.runs) == 2 * 2 * 3 * 2 * 2
    assert {run.config.training.batch_size for run in sweep.runs} == {2, 4}
    assert {run.config.rounds for run in sweep.runs} == {50}
    assert sum(run.name.startswith("narrow,") for run in sweep.runs) == 24


@pytest.mark.parametrize("above", ["", "seed=1/run=another/policy=legend"], ids=["plain", "under a partition"])
@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.splitlines()[0])
def test_the_queries_read_a_sweep_and_nothing_from_the_folders_above_it(
    code: str, above: str, make_sweep: MakeSweep, tmp_path: Path, monkeypatch: Any
) -> None:
    sweep = make_sweep()
    run_sweep(sweep, tmp_path / above / "runs" / "depths", Silent())
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(code.replace("runs/depths", f"{tmp_path / above}/runs/depths"), found)

    if "duckdb" in code:
        assert sorted(found["rounds"].fetchall())[0][:2] == ("fedlora(rank=4)", 0)
        assert len(found["rounds"]) == 4
        return
    rounds = found["rounds"] if "pandas" in code else found["rounds"].to_pandas()
    assert len(rounds) == 8
    assert set(rounds["run"]) == {run.name for run in sweep.runs}
    assert set(rounds.get("seed", pd.Series([0, 1]))) == {0, 1}


def test_the_reader_takes_no_columns_from_the_folders_above(make_sweep: MakeSweep, tmp_path: Path) -> None:
    folder = tmp_path / "seed=7" / "run=another"
    run_sweep(make_sweep(), folder, Silent())

    for table in ("rounds", "devices", "activities"):
        assert set(getattr(emulator.load(folder), table)["seed"]) == {0, 1}


def test_the_example_is_three_policies_over_three_seeds() -> None:
    sweep = expand(read_spec(ROOT / "benchmarks" / "sweeps" / "example.toml"))
    check_runs(sweep)

    assert len({run.labels["policy"] for run in sweep.runs}) == len({run.config.seed for run in sweep.runs}) == 3
    assert len(sweep.runs) == 9
