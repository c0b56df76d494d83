"""A run that has died goes on from its last checkpoint, and ends with the bytes of one that was never disturbed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from emulator.analysis import compare
from emulator.backends import locks
from emulator.config import Config, load_config
from emulator.errors import UserError
from emulator.launch.execute import config_to_resume, execute
from emulator.observers.base import Progress, RunBegan, RunObserver
from emulator.results import verify
from emulator.results.reader import load_run
from emulator.storage.claims import Claim
from tests.command_line import in_process
from tests.command_line import settings as settings_of
from tests.ways import ways_to_run

TROUBLE = {
    "rounds": 4,
    "testbed.n_devices": 8,
    "testbed.cluster": "jetson80-shared-wifi",
    "testbed.availability.kind": "on_off",
    "testbed.availability.mean_on_s": 60.0,
    "testbed.availability.mean_off_s": 20.0,
    "testbed.availability.drop_out_fraction": 0.1,
    "training.local_steps": 1,
    "training.batch_size": 4,
    "data.n_train": 120,
    "data.n_test": 40,
    "results.checkpoint_rounds": 1,
    "backend.kind": "inline",
}
LINKS = Path(__file__).parents[2] / "device_profiles" / "links"
ON_IMAGES = {"model.train": "builtin:cnn", "data.source": "builtin:digits"}


class Killed(BaseException):
    """What no part of a run expects."""


class KillsAfter(RunObserver):
    """Ends a run in the middle of what comes after so many rounds."""

    def __init__(self, n_rounds: int) -> None:
        self._n_rounds = n_rounds

    def progressed(self, progress: Progress) -> None:
        if progress.rounds_done == self._n_rounds:
            raise Killed


class Begins(RunObserver):
    """Remembers with which round a run began, each time."""

    def __init__(self) -> None:
        self.first_rounds: list[int] = []

    def run_began(self, began: RunBegan) -> None:
        self.first_rounds.append(began.first_round)


def settings(**changes: Any) -> Config:
    return load_config(
        None, list({**TROUBLE, **{key.replace("__", "."): value for key, value in changes.items()}}.items())
    )


def digests(run_dir: Path) -> dict[str, str]:
    files = [path for path in sorted(run_dir.rglob("*")) if path.is_file() and path.name != "run.json"]
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if (name := path.relative_to(run_dir).as_posix()).partition("/")[0] not in ("host", "checkpoint")
    }


def settings_of_policy(policy: str) -> Config:
    """Four rounds, with a checkpoint behind each."""
    return settings(policy__path=policy, **(ON_IMAGES if policy in ("mergesfl", "splitfed") else {}))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a policy with :func:`settings_of_policy`, which is made once."""

    @cache
    def made(policy: str) -> Path:
        folder = tmp_path_factory.mktemp("undisturbed") / "run"
        execute(settings_of_policy(policy), folder)
        return folder

    return made


@pytest.mark.slow
@pytest.mark.parametrize("policy", ways_to_run())
def test_a_run_that_died_twice_has_the_bytes_of_one_that_did_not(
    policy: str, undisturbed: Callable[[str], Path], tmp_path: Path
) -> None:
    config = settings_of_policy(policy)
    died, begins = tmp_path / "died", Begins()
    with pytest.raises(Killed):
        execute(config, died, [begins, KillsAfter(2)])
    with pytest.raises(Killed):
        execute(config_to_resume(died), died, [begins, KillsAfter(3)], resumes=True)
    execute(config_to_resume(died), died, [begins], resumes=True)

    assert digests(died) == digests(undisturbed(policy))
    # It died while a round was told, before the checkpoint of that round: so the round comes again.
    assert begins.first_rounds == [0, 1, 2]
    info = load_run(died).info
    assert (info["status"], info["n_rounds"], info["n_resumed"]) == ("finished", 4, 2)
    verify(load_run(died))


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "optimizer"), [("fedlora", "fedyogi"), ("hierfedlora", "fedavgm")])
def test_a_server_optimizer_and_a_schedule_go_on_where_they_were(
    policy: str, optimizer: str, undisturbed: Callable[[str], Path], tmp_path: Path
) -> None:
    config = settings(
        policy__path=policy,
        server__optimizer=optimizer,
        training__optimizer="sgd",
        training__momentum=0.5,
        training__learning_rate=0.1,
        training__warmup_rounds=1,
        training__decay="cosine",
        training__decay_rounds=3,
    )
    whole = execute(config, tmp_path / "whole")
    died = tmp_path / "died"
    with pytest.raises(Killed):
        execute(config, died, [KillsAfter(3)])
    execute(config_to_resume(died), died, resumes=True)

    assert digests(died) == digests(whole) != digests(undisturbed(policy))
    rates = load_run(whole).devices.dropna(subset="learning_rate").groupby("round_index")["learning_rate"].unique()
    # Warm-up over one round is at its end in the first; then (1 + cos(pi t / 3)) / 2.
    assert [rate.tolist() for rate in rates] == [pytest.approx([each]) for each in (0.1, 0.1, 0.075, 0.025)]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["legend", "fedbuff"])
def test_a_finished_run_can_be_made_longer(policy: str, undisturbed: Callable[[str], Path], tmp_path: Path) -> None:
    short = execute(settings(policy__path=policy, rounds=2), tmp_path / "short")
    with pytest.raises(UserError, match="finished"):
        config_to_resume(short)
    execute(config_to_resume(short, rounds=4), short, resumes=True)

    assert digests(short) == digests(undisturbed(policy))
    with pytest.raises(UserError, match="4 rounds are done already, got 3"):
        execute(config_to_resume(short, rounds=3), short, resumes=True)


@pytest.mark.parametrize("policy", ["legend", "fedbuff"])
def test_a_run_goes_on_with_the_same_rates_where_links_change_within_rounds(policy: str, tmp_path: Path) -> None:
    text = (LINKS / "home-wifi.toml").read_text(encoding="utf-8")
    origin = '[provenance.coherence_s]\nkind = "assumed"\nsource = "a test"\n'
    (tmp_path / "link.toml").write_text(
        text.replace("latency_ms = 10", "latency_ms = 10\ncoherence_s = 1.5", 1) + origin
    )
    timed: dict[str, Any] = {"policy__path": policy, "training__enabled": False}
    timed |= {"testbed__link": str(tmp_path / "link.toml"), "testbed__link_heterogeneity": 2.0}
    whole = execute(settings(**timed), tmp_path / "whole")
    short = execute(settings(**timed, rounds=2), tmp_path / "short")
    execute(config_to_resume(short, rounds=4), short, resumes=True)

    assert digests(short) == digests(whole)


@pytest.mark.parametrize("policy", ["legend", "fedbuff"])
def test_a_run_whose_devices_roam_goes_on_from_every_round(policy: str, tmp_path: Path) -> None:
    text = (LINKS / "roaming-wifi.toml").read_text(encoding="utf-8")
    (tmp_path / "link.toml").write_text(text.replace("mean_dwell_s = 600", "mean_dwell_s = 2"))
    timed: dict[str, Any] = {"policy__path": policy, "training__enabled": False}
    timed |= {"testbed__link": str(tmp_path / "link.toml"), "testbed__link_heterogeneity": 2.0}
    whole = execute(settings(**timed), tmp_path / "whole")
    still = execute(settings(**timed | {"testbed__link": "wifi-rings"}), tmp_path / "still")
    for rounds in (1, 2, 3):
        short = execute(settings(**timed, rounds=rounds), tmp_path / f"after {rounds}")
        execute(config_to_resume(short, rounds=4), short, resumes=True)

        assert digests(short) == digests(whole) != digests(still)


def test_a_run_in_whose_description_0_means_not_given_is_read_and_goes_on(tmp_path: Path) -> None:
    given = {"training.enabled": False, "policy.path": "fedlora", "testbed.n_devices": 8, "rounds": 4}
    given |= {"results.checkpoint_rounds": 2, "results.rounds_per_part": 2}
    longer = execute(load_config(None, list(given.items())), tmp_path / "longer")
    short = execute(load_config(None, list({**given, "rounds": 2}.items())), tmp_path / "short")
    path = short / "run.json"
    info = json.loads(path.read_text())
    info["config"]["testbed"] |= {"link": "", "server_tflop_per_s": 0.0}
    info["config"]["testbed"]["availability"] |= {"trace": "", "mean_on_s": 0.0, "mean_off_s": 0.0}
    info["config"]["data"] |= {"test_source": "", "separator": "", "configuration": "", "n_train": 0, "n_test": 0}
    info["config"]["backend"] |= {"hosts": 0, "devices_per_actor": 0}
    info["config"]["model"]["price_seq_len"] = info["config"]["policy"]["depth"] = 0
    path.write_text(json.dumps(info))

    compare([load_run(longer), load_run(short)])
    execute(config_to_resume(short, rounds=4), short, resumes=True)
    assert digests(short) == digests(longer)
    assert load_run(short).info["config"] == load_run(longer).info["config"]


class Warned(RunObserver):
    """Remembers what a run warns of."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warned(self, text: str) -> None:
        self.texts.append(text)


@pytest.mark.parametrize("policy", ["fedlora", "fedbuff"])
def test_a_short_run_without_training_can_be_made_longer_within_its_first_part(policy: str, tmp_path: Path) -> None:
    given = {**TROUBLE, "training.enabled": False, "policy.path": policy, "rounds": 8, "results.checkpoint_rounds": 10}
    longer = execute(load_config(None, list(given.items())), tmp_path / "longer")
    short = execute(load_config(None, list({**given, "rounds": 5}.items())), tmp_path / "short")
    begins, warned = Begins(), Warned()
    execute(config_to_resume(short, rounds=8), short, [begins, warned], resumes=True)

    assert (begins.first_rounds, warned.texts) == ([5], [])
    assert digests(short) == digests(longer)
    verify(load_run(short))


def timing_only(**changes: Any) -> Config:
    given = {**TROUBLE, "training.enabled": False, "policy.path": "fedlora", "rounds": 4, "results.rounds_per_part": 1}
    given |= {key.replace("__", "."): value for key, value in changes.items()}
    return load_config(None, list(given.items()))


def test_a_run_into_the_folder_of_its_first_rounds_makes_them_longer(tmp_path: Path) -> None:
    longer = execute(timing_only(rounds=6), tmp_path / "longer")
    short = execute(timing_only(), tmp_path / "short")
    begins, warned = Begins(), Warned()
    execute(timing_only(rounds=6, results__wait_s=1.0), short, [begins, warned])

    assert begins.first_rounds == [4]
    assert warned.texts == [f"this folder holds the run with 4 rounds; it goes on up to 6: {str(short)!r}"]
    assert digests(short) == digests(longer)
    verify(load_run(short))


def test_a_run_into_the_folder_of_one_that_died_goes_on(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        execute(timing_only(), tmp_path / "died", [KillsAfter(3)])
    begins = Begins()
    execute(timing_only(), tmp_path / "died", [begins])

    assert begins.first_rounds == [2]
    assert digests(tmp_path / "died") == digests(execute(timing_only(), tmp_path / "whole"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "holds this run already, with all of its 4 rounds; give more --rounds"),
        ({"rounds": 3}, "4 rounds are done already, got 3"),
        (
            {"rounds": 6, "seed": 1},
            "holds a run with other settings [(]seed was 0 and is now 1[)]; give these, or choose",
        ),
        (
            {"rounds": 6, "policy__rank": 4, "training__local_steps": 9},
            "[(]policy.rank was 8 and is now 4, training.local_steps was 1 and is now 9[)]",
        ),
        ({"rounds": 6, "policy__path": "fedbuff"}, "policy.path was 'fedlora' and is now 'fedbuff'"),
    ],
)
def test_a_run_into_the_folder_of_another_is_refused_and_changes_nothing(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    run_dir = execute(timing_only(), tmp_path / "run")
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=message):
        execute(timing_only(**changes), run_dir)
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


def test_the_command_with_more_rounds_makes_a_run_longer_and_doctor_says_so(tmp_path: Path) -> None:
    given = {**TROUBLE, "training.enabled": False, "policy.path": "fedlora"}
    overrides = settings_of([f"{key}={json.dumps(value)}" for key, value in given.items() if key != "rounds"])
    command = [*overrides, "--out", str(tmp_path / "run"), "--rounds"]
    assert in_process("run", *command, "4").returncode == 0
    again = in_process("run", *command, "4")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "with all of its 4 rounds" in again.stderr
    # Whatever the width of its table.
    assert "holdstherunwith4rounds;itgoesonupto6" in "".join(in_process("doctor", *command, "6").stdout.split())
    longer = in_process("run", *command, "6")

    assert longer.returncode == 0, longer.stderr
    assert "jetbed: this folder holds the run with 4 rounds; it goes on up to 6" in longer.stderr
    whole = execute(load_config(None, list({**given, "rounds": 6}.items())), tmp_path / "whole")
    assert digests(tmp_path / "run") == digests(whole)


def test_a_run_that_is_resumed_by_hand_with_another_setting_is_told_which(tmp_path: Path) -> None:
    run_dir = execute(timing_only(), tmp_path / "run")
    with pytest.raises(UserError, match=r"other settings [(]training.batch_size was 4 and is now 8[)]; bring them"):
        execute(timing_only(training__batch_size=8, rounds=6), run_dir, resumes=True)


def test_a_run_into_a_folder_without_a_checkpoint_removes_nothing(tmp_path: Path) -> None:
    run_dir = execute(timing_only(results__checkpoint_rounds=0), tmp_path / "run")
    before = digests(run_dir)
    with pytest.raises(UserError, match=r"without a checkpoint, .*; 'jetbed resume' begins it anew, or choose another"):
        execute(timing_only(results__checkpoint_rounds=0, rounds=6), run_dir)
    assert digests(run_dir) == before


def test_a_run_into_a_folder_in_which_another_process_writes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "MOST_DYING_S", 0.2)
    run_dir, warned = execute(timing_only(), tmp_path / "run"), Warned()
    before, writes_there = digests(run_dir), Claim()
    assert writes_there.take(run_dir)
    with pytest.raises(UserError, match="another process is writing into this folder"):
        execute(timing_only(rounds=6), run_dir, [warned])

    assert "another process is writing here" in warned.texts[-1]
    assert digests(run_dir) == before
    writes_there.release()
    execute(timing_only(rounds=6), run_dir)


def test_a_run_that_died_behind_its_last_round_is_finished_without_another(tmp_path: Path) -> None:
    given = {**TROUBLE, "training.enabled": False, "rounds": 3}
    run_dir = execute(load_config(None, list(given.items())), tmp_path / "run")
    before = digests(run_dir)
    path = run_dir / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "failed", "error": "no space left"}))
    execute(config_to_resume(run_dir), run_dir, resumes=True)

    assert digests(run_dir) == before
    info = load_run(run_dir).info
    assert (info["status"], info["error"], info["n_rounds"]) == ("finished", None, 3)


def test_a_run_without_a_checkpoint_says_that_it_begins_anew(tmp_path: Path) -> None:
    given = {**TROUBLE, "training.enabled": False, "rounds": 3, "results.checkpoint_rounds": 0}
    run_dir = execute(load_config(None, list(given.items())), tmp_path / "run")
    warned = Warned()
    execute(config_to_resume(run_dir, rounds=4), run_dir, [warned], resumes=True)

    assert warned.texts == ["the run begins anew with round 0, since it has come to no checkpoint yet"]


@pytest.mark.slow
def test_a_run_whose_last_evaluation_was_out_of_turn_goes_on_from_an_earlier_round(tmp_path: Path) -> None:
    asked = {"evaluation__every_rounds": 2, "results__checkpoint_rounds": 2}
    longer = execute(settings(**asked, rounds=6), tmp_path / "longer")
    short = execute(settings(**asked, rounds=3), tmp_path / "short")
    begins = Begins()
    execute(config_to_resume(short, rounds=6), short, [begins], resumes=True)

    assert begins.first_rounds == [2]
    assert digests(short) == digests(longer)


@pytest.mark.slow
def test_a_run_shorter_than_the_rounds_between_checkpoints_goes_on_where_it_ended(
    undisturbed: Callable[[str], Path], tmp_path: Path
) -> None:
    short = execute(settings(results__checkpoint_rounds=10, rounds=3), tmp_path / "short")
    begins = Begins()
    execute(config_to_resume(short, rounds=4), short, [begins], resumes=True)

    assert begins.first_rounds == [3]
    assert digests(short) == digests(undisturbed("legend"))


@pytest.mark.slow
def test_a_run_that_died_before_its_first_checkpoint_begins_again(
    undisturbed: Callable[[str], Path], tmp_path: Path
) -> None:
    config = settings(results__checkpoint_rounds=3)
    with pytest.raises(Killed):
        execute(config, tmp_path / "died", [KillsAfter(1)])
    execute(config_to_resume(tmp_path / "died"), tmp_path / "died", resumes=True)

    assert digests(tmp_path / "died") == digests(undisturbed("legend"))


@pytest.mark.slow
def test_a_run_whose_model_or_data_changed_does_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        execute(settings(), tmp_path / "run", [KillsAfter(2)])
    path = tmp_path / "run" / "run.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"n_train_examples": 119}))
    with pytest.raises(UserError, match="n_train_examples has changed: it was 119, now it is 120"):
        execute(config_to_resume(tmp_path / "run"), tmp_path / "run", resumes=True)


@pytest.mark.slow
def test_the_command_goes_on_with_what_kill_9_left(tmp_path: Path) -> None:
    given = {**TROUBLE, "rounds": 30, "training.enabled": False, "results.rounds_per_part": 1, "pace": "realtime(40)"}
    options = [part for key, value in given.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    run = [sys.executable, "-m", "emulator.cli", "run", *options, "--policy", "fedbuff", "--out", tmp_path / "died"]
    process = subprocess.Popen(run, stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 60
    while not (tmp_path / "died" / "checkpoint" / "checkpoint.json").exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ended = subprocess.run(
        [sys.executable, "-m", "emulator.cli", "resume", tmp_path / "died"], capture_output=True, text=True
    )

    assert ended.returncode == 0, ended.stderr
    whole = execute(
        load_config(None, list({**given, "pace": "virtual", "policy.path": "fedbuff"}.items())), tmp_path / "whole"
    )
    assert digests(tmp_path / "died") == digests(whole)
