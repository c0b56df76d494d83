"""What a system adds to a round: who polls when, launches and packs, and what travels beside the payload."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import device_profiles
from device_profiles.catalog import load_system
from device_profiles.system_file import SystemSpec
from device_profiles.tables import ProfileError
from emulator.forms.lora import LoraForm
from emulator.policy.checked import CheckedPolicy
from emulator.policy.rounds import play_round
from emulator.records import RoundReport, Status
from emulator.seeds import Seeds
from emulator.testing import exact_testbed, tiny_model
from emulator.world.availability import DropOuts
from emulator.world.clock import Process
from emulator.world.devices import DeviceLost
from emulator.world.system import SystemTestbed
from emulator.world.testbed import Testbed
from policies.fedlora import FedLora

SYSTEM = SystemSpec(
    name="slow",
    device_poll_s=3.0,
    server_poll_s=3.0,
    launch_s=4.0,
    reply_s=0.5,
    download_message_bytes=1000,
    upload_message_bytes=500,
    bytes_per_payload_byte=1.5,
)
AT_ONCE = SystemSpec(
    name="none",
    device_poll_s=0.0,
    server_poll_s=0.0,
    launch_s=0.0,
    reply_s=0.0,
    download_message_bytes=0,
    upload_message_bytes=0,
    bytes_per_payload_byte=1.0,
)
MODEL = tiny_model()
FORM = LoraForm(ranks=(2,) * MODEL.n_layers)
POLICY = FedLora(rank=2)
PAYLOAD_BYTES = 4 * sum(array.size for array in FORM.initial(MODEL, Seeds(0)).values()) + 4 * MODEL.n_head_parameters
DOWN_BYTES, UP_BYTES = (round(1.5 * PAYLOAD_BYTES) + beside for beside in (1000, 500))


def one_device(system: SystemSpec | None, *, fails: bool = False) -> Testbed:
    """A device whose step takes 2 s, and each of whose transfers takes 2 s with :data:`SYSTEM`."""
    return exact_testbed(
        FORM,
        MODEL,
        step_s=[2.0],
        download_bytes_per_s=[DOWN_BYTES / 2],
        upload_bytes_per_s=[UP_BYTES / 2],
        drop_outs=DropOuts(1, float(fails), Seeds(0)),
        **({"make": partial(SystemTestbed, system=system)} if system else {}),
    )


def rounds(system: SystemSpec | None, n_rounds: int, *, fails: bool = False) -> list[RoundReport]:
    testbed = one_device(system, fails=fails)
    state, reports = FORM.initial(MODEL, Seeds(0)), []
    for round_index in range(n_rounds):
        play_round(testbed, CheckedPolicy(POLICY, FORM), round_index, state, None)
        reports.append(testbed.close_round())
    return reports


def test_a_round_lasts_until_the_server_looks_for_answers_again() -> None:
    first, second = rounds(SYSTEM, 2)
    # Download 0 to 2, launch to 6, a step to 8, packing to 8.5, upload to 10.5; the server looks at 0, 3, .. 12.
    assert (first.start_s, first.end_s) == (0.0, 12.0)
    # The device polls at 10.5 and 13.5: 13.5 to 15.5, 19.5, 21.5, 22, 24; the server looks at 12, 15, .. 24.
    assert (second.start_s, second.end_s) == (12.0, 24.0)


def test_what_travels_is_more_than_the_payload() -> None:
    device = rounds(SYSTEM, 1)[0].devices[0]
    assert (device.download_bytes, device.upload_bytes) == (DOWN_BYTES, UP_BYTES)
    assert (device.download_s, device.compute_s, device.upload_s) == (2.0, 2.0, 2.0)


def test_what_a_device_does_not_do_itself_is_waiting() -> None:
    for report in rounds(SYSTEM, 3):
        device = report.devices[0]
        busy_s = device.download_s + device.compute_s + device.upload_s
        assert device.waiting_s == pytest.approx(report.end_s - report.start_s - busy_s)


def test_a_system_that_adds_nothing_changes_nothing() -> None:
    assert rounds(AT_ONCE, 3) == rounds(None, 3)


def test_a_device_that_fails_while_it_computes_is_lost_and_comes_back() -> None:
    for report in rounds(SYSTEM, 2, fails=True):
        assert report.devices[0].status is Status.DROPPED
        assert report.devices[0].upload_bytes == 0


def test_a_device_that_is_lost_while_it_waits_does_not_go_on() -> None:
    testbed = one_device(replace(SYSTEM, launch_s=100.0))
    testbed.open_round(0)
    event = testbed.download(0, PAYLOAD_BYTES)
    testbed.lose(0, Status.LATE)

    def wait() -> Process[None]:
        yield event

    with pytest.raises(DeviceLost):
        testbed.clock.run(wait())
    assert testbed.close_round().devices[0].download_bytes == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "download_message_bytes = 27524",
            "download_message_bytes = 0.4",
            "must be a whole number .*0.4",
        ),
        ("upload_message_bytes = 95726", "upload_message_bytes = -1", "upload_message_bytes must be a whole number"),
        (
            "bytes_per_payload_byte = 1.0",
            "bytes_per_payload_byte = 0",
            "above 0 and at most 100.0, got 0",
        ),
        ("bytes_per_payload_byte = 1.0", "bytes_per_payload_byte = 1e8", "above 0 and at most 100.0, got 100000000.0"),
        ("launch_s = 5.008", "launch_s = 1e6", "launch_s must be a number of at least 0 and at most 86400.0"),
    ],
)
def test_figures_that_are_slips_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (Path(device_profiles.__file__).parent / "systems" / "flower-1.42.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(ProfileError, match=message):
        load_system(tmp_path / "mine.toml")
