"""Power modes by schedule: from settings to devices, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from device_profiles.catalog import load_cluster
from emulator.config import load_config
from emulator.config.testbed import ModeChangeConfig
from emulator.errors import ConfigError
from emulator.launch.execute import execute
from emulator.results.reader import load_run
from emulator.running.mode_schedule import mode_changes_of

CLUSTER = load_cluster("jetson80")


def test_a_change_is_for_all_boards_of_its_kind_by_the_number_of_their_mode() -> None:
    (change,) = mode_changes_of([ModeChangeConfig(device="jetson_tx2", mode="MAXQ", from_round=2, from_s=5.0)], CLUSTER)

    boards = CLUSTER.entry_by_device
    assert set(change.index_of_device) == {number for number, each in enumerate(boards) if each.device == "jetson_tx2"}
    assert {boards[number].modes[index].name for number, index in change.index_of_device.items()} == {"MAXQ"}
    assert (change.from_round, change.from_s) == (2, 5.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"device": "jetson_tx", "mode": "MAXQ"},
            r"testbed.mode_changes\[0\].device must be a board of jetson80; did you mean jetson_tx2\?; it has .*, got",
        ),
        (
            {"device": "jetson_tx2", "mode": "MAXI"},
            r"testbed.mode_changes\[0\].mode must be one that jetson80 lets jetson_tx2 be in.* MAXQ.*, got 'MAXI'",
        ),
    ],
)
def test_boards_and_modes_that_a_cluster_does_not_have_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mode_changes_of([ModeChangeConfig(**change)], CLUSTER)


def test_a_run_s_devices_are_in_the_modes_of_its_schedule(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text("""
rounds = 4
policy.path = "fedlora"
training.enabled = false

[testbed]
n_devices = 8

[[testbed.mode_changes]]
device = "jetson_tx2"
mode = "MAXQ"

[[testbed.mode_changes]]
device = "jetson_tx2"
mode = "MAXN"
from_round = 2
""")

    devices = load_run(execute(load_config(config), tmp_path / "run")).devices

    of_tx2 = devices[devices["profile"] == "jetson_tx2"].groupby("round_index")["power_mode"].unique()
    assert [modes.tolist() for modes in of_tx2] == [["MAXQ"], ["MAXQ"], ["MAXN"], ["MAXN"]]
