"""An unfinished run of a sweep goes on where its checkpoint is of use, and begins anew where not."""

import json
from pathlib import Path

import pytest

from emulator.config import Config, load_config
from emulator.launch.execute import execute
from emulator.storage.patience import Patience
from emulator.sweeps.folder import prepare_run

GIVEN = {
    "rounds": 2,
    "testbed.n_devices": 4,
    "training.enabled": False,
    "results.rounds_per_part": 1,
    "results.checkpoint_rounds": 1,
}


@pytest.fixture
def config() -> Config:
    return load_config(None, list(GIVEN.items()))


@pytest.fixture
def left_behind(config: Config, tmp_path: Path) -> Path:
    """What kill -9 leaves: a run that says that it is under way."""
    folder = execute(config, tmp_path / "run=one")
    says(folder, "running")
    return folder


def says(folder: Path, status: str) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": status}))


def test_a_run_with_a_checkpoint_stays_as_it_is(left_behind: Path, config: Config) -> None:
    assert prepare_run(left_behind, config, Patience()) is None
    assert (left_behind / "checkpoint" / "checkpoint.json").exists()


def test_a_run_with_a_damaged_checkpoint_begins_anew_and_says_so(left_behind: Path, config: Config) -> None:
    next((left_behind / "checkpoint").glob("plans-*.json")).write_text("[]")
    assert "the checkpoint is damaged" in (prepare_run(left_behind, config, Patience()) or "")
    assert not left_behind.exists()


def test_a_run_that_failed_by_itself_begins_anew(left_behind: Path, config: Config) -> None:
    says(left_behind, "failed")
    assert prepare_run(left_behind, config, Patience()) is None
    assert not left_behind.exists()


def test_a_run_that_had_other_settings_begins_anew(left_behind: Path) -> None:
    other = load_config(None, list((GIVEN | {"seed": 5}).items()))
    assert prepare_run(left_behind, other, Patience()) is None
    assert not left_behind.exists()
