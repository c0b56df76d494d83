"""What a script uses: one call for a run, the same settings and messages as on the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

import emulator
from emulator.errors import ConfigError

TIMING = {"training.enabled": False, "rounds": 2, "testbed.n_devices": 4}


def test_a_run_is_one_call(tmp_path: Path) -> None:
    run = emulator.emulate({**TIMING, "seed": 3}, out=tmp_path / "run")
    assert (len(run.rounds), run.info["seed"], run.info["status"]) == (2, 3, "finished")
    assert run.path == tmp_path / "run"
    assert "seed 3, finished" in repr(run)


def test_settings_override_a_file(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        "rounds = 5\nseed = 7\n[training]\nenabled = false\n[testbed]\nn_devices = 4\n"
    )
    run = emulator.emulate({"rounds": 1}, out=tmp_path / "run", config_file=tmp_path / "study.toml")
    assert (len(run.rounds), run.info["seed"]) == (1, 7)


def test_a_whole_configuration_will_do(tmp_path: Path) -> None:
    config = emulator.load_config(None, list(TIMING.items()))
    assert isinstance(config, emulator.Config)
    assert len(emulator.emulate(config, out=tmp_path / "run").rounds) == 2


def test_without_a_folder_it_is_that_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = emulator.emulate(TIMING)
    assert run.path.parent == Path("runs")
    assert run.path.name.endswith("-legend-s0")


def test_a_wrong_setting_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="roundz"):
        emulator.emulate({"roundz": 1}, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_begin_leaves_no_folder_of_its_own_naming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="jetson08"):
        emulator.emulate({**TIMING, "testbed.cluster": "jetson08"})
    assert list(tmp_path.glob("runs/*")) == []


def test_everything_that_is_offered_is_there_and_comes_late() -> None:
    assert set(emulator.__all__) <= set(dir(emulator))
    assert all(getattr(emulator, name) is not None for name in emulator.__all__)
    assert emulator.analysis.METRICS["time_s"].unit == "s"
    code = "import sys, emulator; print({'numpy', 'pandas', 'pydantic', 'emulator.analysis'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
