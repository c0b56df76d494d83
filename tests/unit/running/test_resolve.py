"""The system of a run is a name or a file, and goes with emulated devices that train on their own."""

from pathlib import Path

import pytest

from emulator.config import Config, load_config, parse_setting
from emulator.errors import ConfigError
from emulator.running.compose import check_settings
from emulator.running.resolve import cluster_of, input_digests, system_of

SYSTEM = """
kind = "system"
device_poll_s = 3
server_poll_s = 3
launch_s = 4.5
reply_s = 0.5
download_message_bytes = 1000
upload_message_bytes = 300
bytes_per_payload_byte = 1.25

[provenance.all]
covers = [
    "device_poll_s", "server_poll_s", "launch_s", "reply_s",
    "download_message_bytes", "upload_message_bytes", "bytes_per_payload_byte",
]
kind = "assumed"
source = "none"
date = "2026-11-28"
"""


def config(system: Path, *settings: str) -> Config:
    return load_config(None, [parse_setting(text) for text in (f"testbed.system={system}", *settings)])


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    path = tmp_path / "slow.toml"
    path.write_text(SYSTEM)
    return path


def test_a_file_says_what_a_system_adds(path: Path) -> None:
    system = system_of(config(path))
    assert system is not None
    assert (system.name, system.launch_s) == ("slow", 4.5)
    assert (system.download_bytes(4000), system.upload_bytes(4000)) == (6000, 5300)
    assert system_of(Config()) is None


def test_a_run_can_be_told_from_one_with_another_system(path: Path) -> None:
    digests = input_digests(config(path), cluster_of(config(path)))
    path.write_text(SYSTEM.replace("4.5", "4.6"))
    assert input_digests(config(path), cluster_of(config(path)))["system_sha256"] != digests["system_sha256"]
    assert "system_sha256" not in input_digests(Config(), cluster_of(Config()))


def test_a_name_that_is_no_system_is_answered_with_what_can_be_given() -> None:
    with pytest.raises(ConfigError, match=r"^testbed.system: 'mine' is not a system; .*give the path of a TOML file$"):
        system_of(config(Path("mine")))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("launch_s = 4.5", "launch_s = -1", "launch_s must be a number of at least 0"),
        ("launch_s = 4.5", "", "launch_s is missing"),
        ("launch_s = 4.5", "launch_s = 4.5\nstart_s = 1", "start_s is not a key here"),
        ("= 1.25", "= 0", "bytes_per_payload_byte must be a number above 0 and at most 100.0, got 0"),
        ('kind = "system"', 'kind = "constant"', "kind must be one of system"),
        ('"launch_s", ', "", "launch_s"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(path: Path, old: str, new: str, message: str) -> None:
    path.write_text(SYSTEM.replace(old, new, 1))
    with pytest.raises(ConfigError, match=rf"testbed.system: .*slow.toml.*{message}"):
        system_of(config(path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("policy.path=splitfed",), "testbed.system: policy .*SplitFed exchanges something at every step"),
        (("backend.kind=live", "pace=realtime(2)"), "testbed.system: .* emulated devices alone; .* got '.*slow.toml'"),
    ],
)
def test_a_system_goes_with_emulated_devices_that_train_on_their_own(
    path: Path, settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_settings(config(path, *settings))
