"""``jetbed compare``: what it prints, writes and refuses."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from emulator.analysis import Question
from emulator.cli.compare import show_comparison
from emulator.errors import UserError
from tests.command_line import in_process
from tests.made_runs import write_run, write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Policy a needs 20 s for 0.5, b needs 40 s with one seed and never gets there with the other."""
    runs: dict[str, dict[str, Any]] = {
        "a-s0": {"policy": "a", "seed": 0, "accuracies": [0.1, 0.5]},
        "a-s1": {"policy": "a", "seed": 1, "accuracies": [0.1, 0.5]},
        "b-s0": {"policy": "b", "seed": 0, "accuracies": [0.1, 0.5], "round_s": 20.0},
        "b-s1": {"policy": "b", "seed": 1, "accuracies": [0.1], "status": "failed", "error": "a host | died"},
        "b-s2": {},
    }
    axes = {name: {"policy": name[0], "seed": int(name[-1])} for name in runs}
    return write_sweep(tmp_path / "study", runs, axes)


def shown(capsys: pytest.CaptureFixture[str], *paths: Path, **asked: Any) -> str:
    given = {"question": Question(), "baseline": None, "by": None, "form": None, "out": None} | asked
    show_comparison(paths, **given)
    return capsys.readouterr().out


def cells(text: str, title: str) -> dict[str, list[str]]:
    """The rows of the table under a title, by group."""
    lines = iter(text.splitlines())
    next(line for line in lines if line.startswith(title))
    rows = [line.split("  ") for line in iter(lambda: next(lines).strip(), "")]
    return {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows}


def test_the_table_shows_what_was_reached_and_by_whom(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, sweep, baseline="a", question=Question(target=0.5), form="table", out=sweep / "table.txt")
    assert text == ""
    text = (sweep / "table.txt").read_text()
    reached = cells(text, "to accuracy 0.5")
    assert reached["group"] == ["reached", "rounds", "time s", "traffic kB", "of it up kB", "energy J"]
    assert reached["a"] == ["2 of 2", "2 ± 0", "20.0 ± 0.0", "3.00 ± 0.00", "1.00", "40.0 ± 0.0"]
    assert reached["b"] == ["1 of 3", "2*", "40.0*", "3.00*", "1.00*", "40.0*"]
    assert cells(text, "ratio to a")["b"][0] == "2.00*"
    assert cells(text, "whole runs")["b"][0] == "3 (2 unfinished)"
    assert "b-s1: failed (a host | died), counts with the 1 rounds done" in text
    assert "b-s2: planned, nothing done" in text
    assert max(map(len, text.splitlines())) <= 100


def test_long_names_fit_into_100_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [
        write_run(
            tmp_path / f"{rank}-{seed}",
            [0.123, 0.456 + 0.1 * seed],
            policy="a_long_policy_name",
            seed=seed,
            round_s=3456.0 * (1 + seed),
            down_bytes=123 * 10**9,
            energy_j=1e7,
            settings={"policy": {"path": "a_long_policy_name", "waiting_fraction": rank / 100}},
        )
        for rank in (4, 12)
        for seed in (0, 1)
    ]
    asked = Question(target=0.4, budget_s=1e5, budget_bytes=1e12, budget_j=1e8)
    shown(capsys, *paths, baseline="a_long_policy_name(waiting_fraction=0.04)", question=asked, out=tmp_path / "x.txt")
    text = (tmp_path / "x.txt").read_text()
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert "time h" in text


def test_markdown_is_the_same_tables(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, sweep, form="md", question=Question(target=0.5))
    assert "| group | reached | rounds | time s | traffic kB | of it up kB | energy J |" in text
    assert "| --- | --: | --: | --: | --: | --: | --: |" in text
    assert r"| b | 1 of 3 | 2\* | 40.0\* | 3.00\* | 1.00\* | 40.0\* |" in text
    assert r"a host \| died" in text


def test_json_has_groups_and_runs_with_null_for_what_is_not_known(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(shown(capsys, sweep, form="json", baseline="a"))
    assert (found["target"], found["is_target_given"], found["baselines"]) == (0.5, False, {"a": "a", "b": "a"})
    (row,) = [row for row in found["groups"] if (row["group"], row["metric"]) == ("b", "time_to_target_s")]
    assert (row["mean"], row["low"], row["n_values"], row["n_runs"], row["ratio"]) == (40.0, None, 1, 3, 2.0)
    assert [run["status"] for run in found["runs"]] == ["finished"] * 3 + ["failed", "planned"]
    assert found["runs"][4]["error"] is None
    assert found["runs"][0]["seed"] == 0


def test_the_ending_of_the_file_says_the_format(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x.csv", "x.parquet", "x.json", "x.md"):
        assert shown(capsys, sweep, out=sweep / name) == ""
    from_csv, from_parquet = pd.read_csv(sweep / "x.csv"), pd.read_parquet(sweep / "x.parquet")
    assert from_csv["metric"].tolist() == from_parquet["metric"].tolist()
    assert from_csv["mean"].to_numpy() == pytest.approx(from_parquet["mean"].to_numpy(), nan_ok=True)
    assert json.loads((sweep / "x.json").read_text())["by"] == ["policy"]


def test_runs_without_accuracy_have_no_tables_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [write_run(tmp_path / policy, [None] * 3, policy=policy) for policy in "ab"]
    text = shown(capsys, *paths, baseline="a", form="md")
    assert "without accuracy" in text
    assert "to accuracy" not in text
    assert "**accuracy**" not in text
    assert "| b | 1.00 | 1.00 | 1.00 | 1.00 |" in text


def test_what_cannot_be_compared_or_written_is_refused(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = sweep / "run=a-s0"
    with pytest.raises(UserError, match="give runs, or one sweep"):
        shown(capsys, sweep, run)
    with pytest.raises(UserError, match=r"neither run.json nor sweep.json: '.*nowhere'"):
        shown(capsys, run, sweep / "nowhere")
    with pytest.raises(UserError, match="give it with --out"):
        shown(capsys, run, form="parquet")
    with pytest.raises(UserError, match="the folder of this file does not exist"):
        # Told before the comparison, which these would not stand.
        shown(capsys, run, sweep / "nowhere", out=sweep / "nowhere" / "x.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "run=a-s0", "nowhere"], "nowhere"),
        (["compare", "run=a-s0", "damaged"], "policy must be a text, got 5"),
        (["compare", "run=a-s0", "--target", "80"], "the target is an accuracy from 0 to 1, got 80.0"),
        (["compare", "run=a-s0", "run=a-s0"], "count twice"),
        (["summary", "damaged"], "policy must be a text, got 5"),
        (["summary", "."], "a sweep, not a run"),
    ],
)
def test_mistakes_are_one_message_and_exit_status_2(sweep: Path, arguments: list[str], message: str) -> None:
    info = json.loads((write_run(sweep / "damaged", [0.5]) / "run.json").read_text())
    (sweep / "damaged" / "run.json").write_text(json.dumps(info | {"policy": 5}))
    finished = in_process(*arguments, cwd=sweep)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1


def test_a_policy_given_by_import_path_goes_by_its_class_and_still_is_a_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    policies = ("mine:HalfDepth", "fedlora", "mine:Twin", "yours:Twin")
    paths = [write_run(tmp_path / f"run{i}", [0.1, 0.5], policy=policy) for i, policy in enumerate(policies)]
    reached = cells(shown(capsys, *paths, baseline="mine:HalfDepth", question=Question(target=0.5)), "to accuracy")
    assert list(reached) == ["group", "HalfDepth", "fedlora", "mine:Twin", "yours:Twin"]


def test_boards_without_power_figures_are_named_in_the_place_of_0_joules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = write_run(tmp_path / "known", [0.5], policy="known")
    unknown = write_run(tmp_path / "unknown", [0.5], policy="unknown", energy_j=0.0)
    text = shown(capsys, known, unknown, baseline="known")
    assert "energy of unknown leaves boards out: " in text
    assert "no power figures (0 W)" in text
    assert cells(text, "whole runs")["known"][-1] == "20.0"
    assert cells(text, "whole runs")["unknown"][-1] == "–"
    alone = shown(capsys, unknown)
    assert "\nenergy leaves boards out: " in alone
    assert "no power figures" not in shown(capsys, known)


def test_runs_are_compared_by_any_score(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The loss of these runs is one minus their accuracy: 0.9 and then 0.5, but for the run that failed.
    asked = Question(score="loss", target=0.5, budget_s=15)
    text = shown(capsys, sweep, question=asked, form="md")
    assert "**to loss 0.5**" in text
    assert "| a | 2 of 2 | 2 ± 0 | 20.0 ± 0.0 |" in text
    assert "| a | 0.500 ± 0.000 | 0.500 ± 0.000 | 0.900 ± 0.000 |" in text.partition("**loss**")[2]

    plain = json.loads(shown(capsys, sweep, question=Question(score="loss"), form="json"))
    assert (plain["score"], plain["target"]) == ("loss", 0.5)  # the worst of the best of all finished runs
    assert {"final_loss", "best_loss"} <= set(plain["runs"][0])
    assert "final_accuracy" not in plain["runs"][0]


def test_a_metric_that_is_none_is_refused_with_those_that_there_are(sweep: Path) -> None:
    answer = in_process("compare", str(sweep), "--metric", "acuracy")

    assert answer.returncode == 2
    assert "there is no score 'acuracy'; did you mean accuracy? there is: accuracy, loss" in answer.stderr


def test_a_target_that_no_score_can_have_is_refused(sweep: Path) -> None:
    for metric, target, said in (("mcc", "2", "from -1 to 1"), ("perplexity", "0.5", "of 1 or more")):
        answer = in_process("compare", str(sweep), "--metric", metric, "--target", target)
        assert answer.returncode == 2
        assert said in answer.stderr
