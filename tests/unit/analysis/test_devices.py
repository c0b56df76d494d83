"""Waiting, memory and losses of runs by hand."""

from pathlib import Path

import pytest

from emulator.analysis import METRICS, Question, idle_fraction, lost_device_rounds, mean_waiting_s, measure
from emulator.analysis.devices import peak_memory_bytes, power_remark, without_power
from emulator.errors import ConfigError
from emulator.results.reader import load_run
from tests.made_runs import GB, write_run


def test_devices_wait_for_a_quarter_of_their_time(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", [0.1, 0.2], round_s=[10.0, 30.0]))
    # Mean over rounds of 2.5 s and 7.5 s; 2 devices times 10 s over 2 devices times 40 s.
    assert mean_waiting_s(run.rounds) == 5.0
    assert idle_fraction(run.rounds) == 0.25


def test_rounds_without_a_cohort_or_of_no_length_do_not_count(tmp_path: Path) -> None:
    rounds = load_run(write_run(tmp_path / "run", [0.1, 0.2], round_s=[10.0, 30.0])).rounds
    without = rounds.assign(mean_waiting_s=[2.5, None], n_cohort=[2, 0])
    assert mean_waiting_s(without) == 2.5
    assert idle_fraction(without) == 0.25
    assert mean_waiting_s(without.iloc[1:]) is None
    assert idle_fraction(without.iloc[1:]) is None


def test_the_peak_of_a_device_is_that_of_the_work_it_could_hold(tmp_path: Path) -> None:
    # Device 1 would have needed 8 GB in round 0, which it does not have.
    run = load_run(write_run(tmp_path / "run", [0.1, 0.2], fates=["out_of_memory"]))
    assert peak_memory_bytes(run.devices).to_dict() == {0: 3 * GB, 1: 1 * GB}
    values = measure(run.rounds, run.devices)
    assert (values["peak_memory_max_bytes"], values["peak_memory_mean_bytes"]) == (3 * GB, 2 * GB)
    only_lost = run.devices[(run.devices["device_id"] == 1) & (run.devices["round_index"] == 0)]
    assert measure(run.rounds, only_lost)["peak_memory_max_bytes"] is None


def test_losses_are_counted_by_their_reason(tmp_path: Path) -> None:
    fates = ["out_of_memory", "dropped", "late", "unavailable", "late"]
    run = load_run(write_run(tmp_path / "run", [None] * 6, fates=fates))
    assert lost_device_rounds(run.rounds) == {
        "n_device_rounds": 11,
        "n_out_of_memory": 1,
        "n_dropped": 1,
        "n_late": 2,
        "n_unavailable": 1,
    }


def test_a_run_is_measured_by_all_metrics(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", [0.1, 0.2, 0.3]))
    values = measure(run.rounds, run.devices, Question(target=0.2, budget_s=10.0, budget_bytes=1500, budget_j=60.0))
    assert list(values) == list(METRICS)
    assert None not in values.values()
    assert (values["time_to_target_s"], values["upload_to_target_bytes"]) == (20.0, 1000)
    assert (values["accuracy_in_time"], values["accuracy_in_bytes"], values["accuracy_in_energy"]) == (0.1, 0.1, 0.3)


def test_a_run_without_rounds_tells_nothing(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", []))
    values = measure(run.rounds, run.devices, Question(target=0.2, budget_s=10.0))
    assert values.pop("n_rounds") == 0
    assert set(values.values()) == {None}


@pytest.mark.parametrize(
    "question",
    [{"target": 1.5}, {"target": float("nan")}, {"budget_s": 0.0}, {"budget_j": -1.0}, {"budget_bytes": float("inf")}],
)
def test_impossible_questions_are_refused(question: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(question))):
        Question(**question)


def test_boards_that_take_no_joule_have_no_power_figures(tmp_path: Path) -> None:
    devices = load_run(write_run(tmp_path / "run", [0.1, 0.2])).devices
    nobody = devices.assign(profile=["a", "b"] * 2, energy_j=0.0)
    assert without_power(devices) == ()
    assert without_power(nobody) == ("a", "b")
    assert without_power(nobody.assign(energy_j=[0.0, 1.0] * 2)) == ("a",)
    assert without_power(nobody.assign(status="idle")) == ()
    assert power_remark(["a"]) == "a has no power figures (0 W)"
