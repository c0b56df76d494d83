"""The examples run as they stand, and the queries of docs/metrics.md hold on a study that was really run."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import emulator
from emulator.analysis import METRICS, Question, compare
from emulator.config import parse_setting
from emulator.sweeps.expansion import expand
from emulator.sweeps.spec import read_spec
from tests.command_line import in_process, settings
from tests.made_runs import write_sweep
from tests.unit.analysis.test_metrics_reference import OF_GROUPS, OF_RUNS, TEXT, run_queries

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL_STUDY = ("rounds=3", "testbed.n_devices=8", "data.n_train=400", "data.n_test=100", "training.local_steps=4")


def example(name: str, *arguments: str, cwd: Path) -> str:
    """What a script prints."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    finished = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``study.toml`` and ``runs/study``: the study of the examples, but smaller."""
    folder = tmp_path_factory.mktemp("study")
    text = (EXAMPLES / "study.toml").read_text()
    text = text.replace('["fedlora", "legend", "fedbuff"]', '["fedlora", "legend"]').replace("[0, 1, 2]", "[0, 1]")
    (folder / "study.toml").write_text(text)
    arguments = ["--out", str(folder / "runs" / "study"), "--backend", "inline", *settings(SMALL_STUDY)]
    finished = in_process("sweep", str(folder / "study.toml"), *arguments)
    assert finished.returncode == 0, finished.stderr
    return folder


def test_the_study_is_the_one_that_its_comment_and_the_readme_are_about() -> None:
    sweep = expand(read_spec(EXAMPLES / "study.toml"))
    assert len(sweep.runs) == 9
    assert {run.labels["policy"] for run in sweep.runs} == {"fedlora", "legend", "fedbuff"}


def test_a_round_is_played_by_hand_and_its_timeline_printed(tmp_path: Path) -> None:
    *boards, total = example("00_one_round.py", cwd=tmp_path).splitlines()[-5:]
    bars = [board.split("|")[1] for board in boards]
    assert all(re.fullmatch(r"v+#+\^+\.*", bar) for bar in bars)
    # The slowest delivers as the round ends, which is when the others stop waiting.
    assert {len(bar) for bar in bars} == {64}
    assert sum(bar.endswith("^") for bar in bars) == 1
    [waited] = [board for board in boards if board.endswith("waits 0.0 s")]
    spent_s = [float(number) for number in re.findall(r"[\d.]+(?= [+s])", waited.rpartition("|")[2])][:3]
    [round_s] = re.findall(r"took ([\d.]+) emulated seconds", total)
    assert sum(spent_s) == pytest.approx(float(round_s), abs=0.2)


def test_an_own_board_runs_beside_others(tmp_path: Path) -> None:
    printed = example("04_own_board.py", "runs/board", cwd=tmp_path)
    assert "my_board in 12W: 0.6 TFLOP/s, 12 W" in printed
    rows = emulator.load(tmp_path / "runs" / "board").devices.groupby("profile")["device_id"].nunique()
    assert rows.to_dict() == {"my_board": 4, "jetson_tx2": 4}


def test_a_sweep_is_queried_in_sql(tmp_path: Path) -> None:
    runs = {f"{policy}-s0": {"policy": policy, "accuracies": [0.1, 0.875]} for policy in ("one", "other")}
    axes = {name: {"policy": name[:-3], "seed": 0} for name in runs}
    printed = example("03_query_a_sweep.py", str(write_sweep(tmp_path / "study", runs, axes)), cwd=tmp_path)
    assert "one" in printed
    assert "0.875" in printed


@pytest.mark.slow
def test_an_own_policy_is_compared(tmp_path: Path) -> None:
    printed = example("02_own_policy.py", "runs/own", cwd=tmp_path)
    assert "ratio to fedlora" in printed
    assert "HalfDepth" in printed
    assert len(list((tmp_path / "runs" / "own").iterdir())) == 6


@pytest.mark.slow
def test_accuracy_over_time_is_drawn(tmp_path: Path) -> None:
    """The script as it stands, but on a smaller testbed, and in this process."""
    spec = importlib.util.spec_from_file_location("accuracy_over_time", EXAMPLES / "01_accuracy_over_time.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.SETTINGS.update(parse_setting(text) for text in SMALL_STUDY)
    script.main(tmp_path)
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    for policy in ("fedlora", "legend"):
        assert emulator.load(tmp_path / policy).rounds["accuracy"].notna().tolist() == [True] * 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pandas", "duckdb"])
def test_the_documented_queries_hold_on_a_real_study(study: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(study)
    text = TEXT.replace("'a'", "'fedlora'").replace('by_seed["a"]', 'by_seed["fedlora"]').replace("0.6", "0.2")
    results = run_queries(text, kind)
    question = Question(target=0.2, budget_s=60.0, budget_bytes=6000, budget_j=100.0)
    compared = compare(emulator.load("runs/study"), question, baseline="fedlora")
    runs, groups = compared.runs.set_index("run"), compared.groups.set_index("group")
    for name in OF_RUNS:
        for metric in [column for column in results[name].columns if column in METRICS]:
            got = results[name][metric].astype(float).reindex(runs.index)
            pd.testing.assert_series_equal(got, runs[metric], check_names=False, rtol=1e-9)
    groups = groups[groups["metric"] == "time_to_target_s"]
    for name, columns in OF_GROUPS.items():
        for column in columns:
            got = results[name][column].astype(float).reindex(groups.index)
            pd.testing.assert_series_equal(got, groups[column], check_names=False, rtol=1e-6)
    assert groups["n_values"].sum() > 0


@pytest.mark.slow
def test_the_notebook_runs(study: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / "analysis.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(study)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
