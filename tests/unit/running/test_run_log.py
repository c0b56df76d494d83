"""What a run tells and writes as it goes: when its folder appears, what run.json warns of, and how far it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from emulator.cli.display import facts_of
from emulator.observers.many import Observers
from emulator.policy.checked import CheckedPolicy
from emulator.policy.rounds import play_round
from emulator.records import Evaluation
from emulator.results.reader import load_run
from emulator.results.writer import RunWriter
from emulator.running.progress import LiveProgress
from emulator.running.run_log import RunLog, round_tables
from emulator.testing import exact_testbed, tiny_model
from emulator.world.testbed import Testbed
from policies.fedlora import FedLora
from tests.unit.observers.recording import Recorder

MODEL = tiny_model()
POLICY = FedLora(rank=2)
FORM = POLICY.form(MODEL)


class Played:
    """Rounds of one device, whose log goes to ``out_dir``."""

    def __init__(self, out_dir: Path, rounds_per_part: int = 1) -> None:
        self.recorder = Recorder()
        self.told = self.recorder.progress
        observers = Observers([self.recorder])
        self.progress = LiveProgress(3, observers)
        run_info = {"seed": 7, "config": {"rounds": 3}}
        self.log = RunLog(RunWriter(out_dir, rounds_per_part), run_info, self.progress, observers, [])
        self.testbed: Testbed = exact_testbed(
            FORM, MODEL, step_s=[1.0], download_bytes_per_s=[1e3], upload_bytes_per_s=[1e3]
        )
        self._policy = CheckedPolicy(POLICY, FORM)
        self._n_rounds = 0

    def round(self, accuracy: float | None, outside: dict[str, str] | None = None) -> None:
        self.evaluated(None if accuracy is None else Evaluation(accuracy=accuracy, loss=1.0, n_examples=4), outside)

    def evaluated(self, evaluation: Evaluation | None, outside: dict[str, str] | None = None) -> None:
        self.log.begin_round()
        state = {"w": np.zeros(1, np.float32)}
        opened = play_round(self.testbed, self._policy, self._n_rounds, state, None, self.log.timed).opened
        self._n_rounds += 1
        report = self.testbed.close_round(evaluation)
        self.log.write_round(report, round_tables(opened), [], outside or {})


def info(out_dir: Path) -> dict[str, Any]:
    return json.loads((out_dir / "run.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_nothing_is_on_disk_before_the_first_round_is_written(tmp_path: Path) -> None:
    played = Played(tmp_path / "run")
    assert not (tmp_path / "run").exists()

    played.round(0.5)

    assert info(tmp_path / "run")["seed"] == 7


def test_a_run_that_fails_before_its_first_round_leaves_nothing(tmp_path: Path) -> None:
    Played(tmp_path / "run").log.end("failed", "KeyError: 1")

    assert not (tmp_path / "run").exists()


def test_every_phase_of_a_round_is_in_the_table_host(tmp_path: Path) -> None:
    played = Played(tmp_path / "run")
    for _ in range(2):
        played.round(0.5)
    played.log.finish(3)

    host = load_run(tmp_path / "run").host
    assert [list(rows["phase"]) for _, rows in host.groupby("round_index")] == [["plan", "play", "round", "write"]] * 2


def test_progress_keeps_the_last_accuracy_and_adds_up_the_costs(tmp_path: Path) -> None:
    played = Played(tmp_path / "run")
    for accuracy in (0.5, None):
        played.round(accuracy)

    first, second = played.told
    assert (first.rounds_done, second.rounds_done) == (1, 2)
    assert (second.accuracy, second.now_s) == (0.5, played.testbed.clock.now_s)
    assert (second.score_name, second.score) == ("accuracy", 0.5)
    assert second.energy_j == 2 * first.energy_j
    assert second.transferred_bytes == 2 * first.transferred_bytes > 0


def test_progress_has_what_people_quote_of_a_run_without_accuracy(tmp_path: Path) -> None:
    played = Played(tmp_path / "run")
    played.evaluated(Evaluation(accuracy=None, loss=1.0, n_examples=4, perplexity=2.7, token_accuracy=0.25))
    played.round(None)

    for told in played.told:
        assert (told.accuracy, told.score_name, told.score) == (None, "token_accuracy", 0.25)
    assert facts_of(played.told[0]).startswith("token accuracy 0.250  emulated ")


def test_a_round_is_told_as_done_once_its_part_is_on_disk(tmp_path: Path) -> None:
    played = Played(tmp_path / "run", rounds_per_part=2)
    for _ in range(3):
        played.round(0.5)
    played.log.finish(3)

    assert [progress.rounds_done for progress in played.told] == [0, 2, 2, 3]


def test_run_json_has_what_the_run_has_come_to_warn_of(tmp_path: Path) -> None:
    played = Played(tmp_path / "run")
    played.round(0.5)
    assert "warning" not in info(tmp_path / "run")

    played.progress.warn("too slow")
    played.round(0.5, {"exact-0": "batch size 9"})

    assert info(tmp_path / "run")["warning"] == "too slow"
    assert info(tmp_path / "run")["outside_known_range"] == {"exact-0": "batch size 9"}
    assert played.recorder.told("warned") == ["too slow"]


def test_jobs_that_are_done_are_told_until_the_round_is(tmp_path: Path) -> None:
    played = Played(tmp_path / "run")
    played.log.tell_jobs(1, 4)
    played.round(0.5)

    assert [(progress.jobs_done, progress.n_jobs) for progress in played.told] == [(1, 4), (0, 0)]
