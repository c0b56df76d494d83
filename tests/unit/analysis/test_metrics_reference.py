"""Every query of docs/metrics.md is run on a sweep by hand, and gives the figures of the comparison."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

import emulator
from emulator.analysis import METRICS, Comparison, Question, compare
from tests.made_runs import write_sweep

TEXT = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
QUERY = re.compile(r"<!-- (pandas|duckdb): (\w+) -->\n```\w+\n(.*?)```", flags=re.DOTALL)
OF_RUNS = ("whole", "accuracy", "to_target", "budget", "waiting", "memory", "losses", "heterogeneity")
OF_GROUPS = {"means": ("mean", "low", "high"), "ratios": ("ratio", "ratio_low", "ratio_high")}
QUESTION = Question(target=0.6, budget_s=60.0, budget_bytes=6000, budget_j=100.0)

Frames = Mapping[str, pd.DataFrame]


def made_sweep(folder: Path) -> Path:
    """Policies with gaps in their evaluation, with losses, of several lengths, that reach 0.6 or do not."""
    a, b = {"policy": "a", "round_s": 12.5}, {"policy": "b", "down_bytes": 700, "energy_j": 11.0}
    runs: dict[str, dict[str, Any]] = {
        "a-s0": {**a, "accuracies": [0.2, None, 0.6, 0.55, 0.7]},
        "a-s1": {**a, "accuracies": [None, 0.5, 0.61], "fates": ["late", "out_of_memory", "dropped"]},
        "a-s2": {**a, "accuracies": [0.65, 0.5], "start_s": 3.0},
        "b-s0": {**b, "accuracies": [0.1, 0.3, 0.5, 0.62, 0.8, None], "round_s": [5.0, 6.0, 7.0, 8.0, 9.0, 4.0]},
        "b-s1": {**b, "accuracies": [0.1] * 9},
        "b-s2": {**b, "accuracies": [None, 0.3, 0.9], "fates": ["unavailable", "ok", "idle"]},
        "c-s0": {"policy": "c", "accuracies": [0.1, 0.9], "status": "failed", "error": "a host died"},
        "c-s1": {},
    }
    for name, arguments in runs.items():
        if arguments:
            arguments["seed"] = int(name[-1])
    return write_sweep(folder, runs, {name: {"policy": name[0], "seed": int(name[-1])} for name in runs})


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metrics")
    made_sweep(folder / "runs" / "study")
    return folder


@pytest.fixture(scope="module")
def compared(sweep: Path) -> Comparison:
    return compare(emulator.load(sweep / "runs" / "study"), QUESTION, baseline="a")


@pytest.fixture(scope="module", params=["pandas", "duckdb"])
def results(request: pytest.FixtureRequest, sweep: Path) -> Frames:
    """What the queries of one kind come to, by their names, each with a row per run or policy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(sweep)
        return run_queries(TEXT, request.param)


def run_queries(text: str, kind: str) -> Frames:
    """Run all queries of one kind, one after the other, in the current folder."""
    queries = [(name, code) for language, name, code in QUERY.findall(text) if language == kind]
    found: dict[str, Any] = {}
    with duckdb.connect() as connection:
        for name, code in queries:
            if kind == "pandas":
                exec(compile(code, f"docs/metrics.md, {name}", "exec"), found)
            else:
                connection.execute(code)
                frame = connection.table(name).df()
                key = next((key for key in ("run", "policy") if key in frame), None)
                found[name] = frame.set_index(key) if key else frame
    return found


def test_every_query_is_there_in_both_languages() -> None:
    names = {
        kind: [name for language, name, _ in QUERY.findall(TEXT) if language == kind] for kind in ("pandas", "duckdb")
    }
    assert names["pandas"] == names["duckdb"]
    assert {*OF_RUNS, *OF_GROUPS, "interpolated", "target"} <= set(names["pandas"])


def test_every_metric_is_defined_with_its_symbol_and_unit() -> None:
    rows = {
        cells[0].strip("`"): cells
        for line in TEXT.splitlines()
        if line.startswith("| `")
        for cells in [[cell.strip() for cell in line.strip("| ").split(" | ")]]
    }
    assert {name: (row[1], row[-1]) for name, row in rows.items()} == {
        name: (metric.symbol, metric.unit) for name, metric in METRICS.items()
    }


def test_queries_give_each_metric_of_each_run(results: Frames, compared: Comparison) -> None:
    runs = compared.runs.set_index("run")
    seen = set()
    for name in OF_RUNS:
        for metric in [column for column in results[name].columns if column in METRICS]:
            got = results[name][metric].astype(float).reindex(runs.index)
            if metric == "n_rounds":
                got = got.where(got.notna(), runs[metric])  # a run without rounds is not in the tables
            expected = runs[metric].astype(float)
            pd.testing.assert_series_equal(got, expected, check_names=False, rtol=1e-9)
            seen.add(metric)
    assert seen == set(METRICS)


def test_queries_give_the_interpolated_time(results: Frames, sweep: Path) -> None:
    question = Question(target=0.6, interpolate=True)
    runs = compare(emulator.load(sweep / "runs" / "study"), question).runs.set_index("run")
    got = results["interpolated"]["time_to_target_s"].reindex(runs.index)
    pd.testing.assert_series_equal(got, runs["time_to_target_s"], check_names=False, rtol=1e-9)


def test_queries_give_the_target_that_all_finished_runs_reach(results: Frames, sweep: Path) -> None:
    target = compare(emulator.load(sweep / "runs" / "study")).question.target
    got = results["target"]
    assert (got["target"].iloc[0] if isinstance(got, pd.DataFrame) else got) == target == 0.1


@pytest.mark.parametrize("name", list(OF_GROUPS))
def test_queries_give_intervals_and_ratios(results: Frames, compared: Comparison, name: str) -> None:
    groups = compared.groups[compared.groups["metric"] == "time_to_target_s"].set_index("group")
    for column in OF_GROUPS[name]:
        got = results[name][column].astype(float).reindex(groups.index)
        pd.testing.assert_series_equal(got, groups[column], check_names=False, rtol=1e-6)
    assert groups["mean"].notna().all()
    assert groups.loc["b", "n_pairs"] == 2
