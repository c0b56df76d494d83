"""A backend is one file and one line: a made-up one runs, is planned for and carries out a sweep."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from emulator.backends import kinds
from emulator.backends.batch import BatchRun, Listener
from emulator.backends.inline import run_inline
from emulator.backends.kinds import KINDS, BackendKind
from emulator.config import Config, config_of
from emulator.errors import ConfigError
from emulator.launch.execute import execute
from emulator.observers.base import RunObserver
from emulator.results.info import read_info
from emulator.sweeps.estimate import estimate
from emulator.sweeps.execution import run_sweep
from emulator.sweeps.expansion import expand
from emulator.sweeps.spec import read_spec

BORROWED = BackendKind(
    name="borrowed",
    holds="hosts that somebody lends",
    run=f"{__name__}:run_borrowed",
    run_batch=f"{__name__}:run_borrowed_batch",
    has_host_processes=True,
    start_s=1000.0,
)
ran: list[str] = []


def run_borrowed(config: Config, out_dir: Path, observers: Sequence[RunObserver]) -> None:
    ran.append(out_dir.name)
    run_inline(config, out_dir, observers)


def run_borrowed_batch(runs: list[BatchRun], listener: Listener, max_parallel: int, lock: Path) -> None:
    for run in runs:
        listener.started(run.name)
        execute(run.config, run.out_dir)
        listener.ended(run.name, None)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KINDS", (*KINDS, BORROWED))
    ran.clear()


SMALL = {
    "rounds": 1,
    "testbed": {"n_devices": 2},
    "data": {"n_train": 40, "n_test": 20},
    "training": {"local_steps": 1},
    "backend": {"kind": "borrowed"},
}
SWEEP = """
[base]
rounds = 1
testbed.n_devices = 2
training.enabled = false
backend.kind = "borrowed"
[axes]
seed = [0, 1]
"""


class NoDisplay:
    def warned(self, text: str) -> None: ...

    def show(self, states: object, progress: object) -> None:
        """Nobody looks."""


def test_a_run_is_trained_by_the_function_of_its_backend(tmp_path: Path) -> None:
    execute(config_of(SMALL, (), "test"), tmp_path / "run")

    assert ran == ["run"]
    assert read_info(tmp_path / "run")["config"]["backend"]["kind"] == "borrowed"


def test_a_sweep_goes_side_by_side_where_the_backend_can(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(SWEEP)

    states = run_sweep(expand(read_spec(tmp_path / "study.toml")), tmp_path / "study", NoDisplay(), max_parallel=2)

    assert {state.status for state in states.values()} == {"finished"}


def test_an_estimate_has_the_time_in_which_the_backend_starts(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(SWEEP)

    expected = estimate(expand(read_spec(tmp_path / "study.toml")), tmp_path / "study", max_parallel=2)

    assert expected.start_s == 1000.0
    assert expected.n_parallel == 2


def test_runs_that_go_one_after_another_refuse_to_go_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(SWEEP.replace("borrowed", "inline"))

    with pytest.raises(ConfigError, match=r"inline runs go one after another; use backend\.kind = 'ray'"):
        run_sweep(expand(read_spec(tmp_path / "study.toml")), tmp_path / "study", NoDisplay(), max_parallel=2)


def test_a_backend_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        ConfigError, match=r"^run\.toml: backend\.kind: must be 'ray' or 'inline' or 'live' or 'borrowed', got 'rya'$"
    ):
        config_of({"backend": {"kind": "rya"}}, (), "run.toml")
