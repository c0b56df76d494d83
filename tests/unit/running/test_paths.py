"""What travels to hosts means there what it means where the user is."""

from pathlib import Path

import pytest

from emulator.config import load_config
from emulator.running.paths import located


def test_paths_of_what_hosts_load_are_made_absolute_and_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "mini").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "test.csv").touch()
    settings = {"model.train": "mini", "data.source": "user/dataset", "data.test_source": "~/test.csv"}
    config = located(load_config(None, list(settings.items())))

    assert config.model.train == str(tmp_path / "mini")
    assert config.data.source == "user/dataset"
    assert config.data.test_source == str(tmp_path / "home" / "test.csv")
    assert located(load_config(None)) == load_config(None)
