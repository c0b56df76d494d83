"""What a run tells its observers, and that none of them can end it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import emulator
from emulator.errors import UserError
from emulator.observers.base import RoundClosed, RunBegan, RunEnded, RunObserver
from tests.unit.observers.recording import Failing, Recorder

TIMING = {"training.enabled": False, "rounds": 3, "testbed.n_devices": 4}
OWN = "tests.unit.observers.recording:LinesOfJson"


def test_a_run_tells_of_its_begin_its_rounds_and_its_end(tmp_path: Path) -> None:
    recorder = Recorder()
    run = emulator.emulate(TIMING, out=tmp_path / "run", observers=[recorder])

    assert recorder.names() == ["run_began", *["round_closed"] * 3, "run_ended"]
    began: RunBegan = recorder.told("run_began")[0]
    assert (began.out_dir, began.n_rounds) == (tmp_path / "run", 3)
    assert json.loads(json.dumps(began.config)) == run.info["config"]
    assert began.info["policy"] == "legend"
    assert recorder.told("run_ended") == [RunEnded(status="finished")]
    assert (recorder.progress[-1].rounds_done, recorder.progress[-1].now_s) == (3, run.rounds["end_s"].iloc[-1])


def test_the_rows_that_are_told_are_those_that_are_written(tmp_path: Path) -> None:
    recorder = Recorder()
    run = emulator.emulate(TIMING, out=tmp_path / "run", observers=[recorder])
    rounds: list[RoundClosed] = recorder.told("round_closed")

    for table, frame in (("rounds", run.rounds), ("devices", run.devices), ("activities", run.activities)):
        told = [list(closed.rows[table]["energy_j"]) for closed in rounds]
        assert [value for values in told for value in values] == frame["energy_j"].tolist()
    assert [closed.report.end_s for closed in rounds] == run.rounds["end_s"].tolist()


def test_the_folder_is_there_when_a_run_has_begun(tmp_path: Path) -> None:
    class Notes(RunObserver):
        def run_began(self, began: RunBegan) -> None:
            (began.out_dir / "notes.txt").write_text("begun")

    run = emulator.emulate(TIMING, out=tmp_path / "run", observers=[Notes()])

    assert (run.path / "notes.txt").read_text() == "begun"
    assert (run.info["status"], "observer_failures" in run.info) == ("finished", False)


def test_an_observer_that_fails_is_said_once_and_the_run_goes_on(tmp_path: Path) -> None:
    recorder = Recorder()
    failing = Failing(ValueError("no such axis"))
    with pytest.warns(RuntimeWarning, match="Failing failed in round_closed .* no such axis") as caught:
        run = emulator.emulate(TIMING, out=tmp_path / "run", observers=[failing, recorder])

    assert len([each for each in caught if each.category is RuntimeWarning]) == 1
    assert failing.n_told == 1
    assert (run.info["status"], len(run.rounds)) == ("finished", 3)
    assert run.info["observer_failures"] == recorder.told("warned")


def test_one_that_fails_at_the_very_end_is_in_run_json_too(tmp_path: Path) -> None:
    class Late(RunObserver):
        def run_ended(self, ended: RunEnded) -> None:
            raise OSError("gone")

    with pytest.warns(RuntimeWarning, match="gone"):
        run = emulator.emulate(TIMING, out=tmp_path / "run", observers=[Late()])

    assert "failed in run_ended" in run.info["observer_failures"][0]
    assert run.info["status"] == "finished"


def test_observers_of_the_configuration_are_told_as_well(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**TIMING, "observers": [OWN, {"path": OWN, "name": "b.jsonl", "fails_at": 1}]}
    with pytest.warns(RuntimeWarning, match="no more paper"):
        run = emulator.emulate(settings, out=tmp_path / "run")

    assert len((run.path / "rounds.jsonl").read_text().splitlines()) == 3
    assert len((run.path / "b.jsonl").read_text().splitlines()) == 1
    assert "no more paper" in run.info["observer_failures"][0]
    assert run.info["config"]["observers"] == [{"path": OWN}, {"path": OWN, "name": "b.jsonl", "fails_at": 1}]


def test_observers_change_no_table(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning):
        watched = emulator.emulate(TIMING, out=tmp_path / "a", observers=[Recorder(), Failing(ValueError())])
    alone = emulator.emulate(TIMING, out=tmp_path / "b")

    for part in sorted(alone.path.glob("[rda]*/*.parquet")):
        assert part.read_bytes() == (watched.path / part.relative_to(alone.path)).read_bytes()


def test_a_run_that_fails_in_its_first_round_has_an_end_and_no_begin(tmp_path: Path) -> None:
    recorder = Recorder()
    settings = {**TIMING, "policy.path": "tests.unit.observers.made_policies:FailsAtRound", "policy.at": 0}
    with pytest.raises(UserError):
        emulator.emulate(settings, out=tmp_path / "run", observers=[recorder])

    assert recorder.names() == ["run_ended"]
    assert recorder.told("run_ended")[0].status == "failed"
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_later_tells_why(tmp_path: Path) -> None:
    recorder = Recorder()
    settings = {**TIMING, "policy.path": "tests.unit.observers.made_policies:FailsAtRound", "policy.at": 1}
    with pytest.raises(UserError):
        emulator.emulate(settings, out=tmp_path / "run", observers=[recorder])

    assert recorder.names() == ["run_began", "round_closed", "run_ended"]
    assert "out of ideas" in recorder.told("run_ended")[0].error
    assert emulator.load(tmp_path / "run").info["error"] == recorder.told("run_ended")[0].error


def test_the_observer_in_the_documentation_does_what_it_says(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "observers.md").read_text(encoding="utf-8")
    example = next(block for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "class" in block)
    names: dict[str, Any] = {}
    exec(example, names)

    run = emulator.emulate(TIMING, out=tmp_path / "run", observers=[names["Csv"]()])

    lines = [line.split(",") for line in (run.path / "waiting.csv").read_text().splitlines()]
    assert [float(end_s) for end_s, _ in lines] == run.rounds["end_s"].tolist()
    assert [float(waiting_s) for _, waiting_s in lines] == run.rounds["mean_waiting_s"].tolist()
