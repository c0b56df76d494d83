"""Seconds, bytes, joules and memory by device type, against the closed form of the runs by hand."""

import pandas as pd
import pytest

from emulator.report.device_types import TypeRecord, over_seeds, type_records
from emulator.results.reader import load_run
from tests.unit.report.conftest import FAST, SLOW, MakeRun


def record_of(make_run: MakeRun, name: str, profile: str, **arguments: object) -> TypeRecord:
    run = load_run(make_run(name, **arguments))
    return type_records(run.devices, run.activities)[profile]


def test_types_have_their_devices_and_the_closed_form_of_their_work(make_run: MakeRun) -> None:
    slow = over_seeds(SLOW, [record_of(make_run, "run", SLOW)])

    assert slow["n_devices"] == 2
    assert slow["mean_s"] == {"download": 1, "compute": 6, "upload": 1, "wait": 2}
    # Per device, over three rounds.
    assert (slow["download_bytes"], slow["upload_bytes"]) == (3000, 1500)
    assert slow["energy_j"] == {"download": 15, "compute": 180, "upload": 15, "wait": 12}
    assert slow["limit_bytes"] == 2000
    assert slow["peak_bytes"] == [1000, 1100, 1200]
    assert slow["waiting"] == [2, 2, 2, 2, 2, 2]
    assert set(slow["n_lost"].values()) == {0}


def test_seeds_are_averaged_by_device_and_waiting_is_pooled(make_run: MakeRun) -> None:
    short = record_of(make_run, "a", FAST, accuracy=[0.5], round_s=10.0)
    long = record_of(make_run, "b", FAST, accuracy=[0.5, 0.6, 0.7], round_s=14.0)
    both = over_seeds(FAST, [short, long])

    # One round with 6 s of waiting and three with 10 s, of two devices each.
    assert both["mean_s"]["wait"] == (2 * 6 + 6 * 10) / 8
    assert both["waiting"][2] == 10
    assert both["download_bytes"] == (1000 + 3000) / 2
    assert both["energy_j"]["wait"] == pytest.approx((12 + 3 * 20) / 2)


def test_devices_outside_the_cohort_cost_energy_but_do_not_wait(make_run: MakeRun) -> None:
    run = load_run(make_run("run", accuracy=[0.5]))
    devices = run.devices.copy()
    devices.loc[devices["device_id"] == 0, ["status", "peak_memory_bytes"]] = ["idle", 0]
    fast = over_seeds(FAST, [type_records(devices, run.activities)[FAST]])

    assert fast["mean_s"]["wait"] == 6
    assert fast["energy_j"]["wait"] == 12
    assert fast["peak_bytes"][0] == 1000


def test_a_type_that_was_never_asked_has_no_box_and_no_memory(make_run: MakeRun) -> None:
    run = load_run(make_run("run"))
    devices: pd.DataFrame = run.devices.assign(status="unavailable")
    fast = over_seeds(FAST, [type_records(devices, run.activities)[FAST]])

    assert fast["waiting"] is None
    assert fast["peak_bytes"] is None
    assert fast["n_lost"]["unavailable"] == 6
