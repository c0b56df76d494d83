"""What dashboards draw of a round has the names and values of its tables."""

from emulator.observers.figures import figures, flat
from tests.unit.observers.rounds_by_hand import closed_round


def test_the_figures_are_those_of_the_row_in_rounds_with_emulated_time() -> None:
    # Round 2 begins after two rounds of 10 s. Two devices: 100 byte down and 25 up each, (2 + 4) / 2 s of waiting.
    assert figures(closed_round(2)) == {
        "emulated_s": 30.0,
        "round_s": 10.0,
        "accuracy": 0.75,
        "loss": 1.25,
        "n_cohort": 2.0,
        "n_ok": 2.0,
        "n_dropped": 0.0,
        "n_out_of_memory": 0.0,
        "n_late": 0.0,
        "n_unavailable": 0.0,
        "mean_waiting_s": 3.0,
        "download_bytes": 200.0,
        "upload_bytes": 50.0,
        "n_bytes": 250.0,
        "energy_j": 80.0,
        "train_loss": 0.5,
    }


def test_what_is_not_known_is_left_out() -> None:
    assert {"accuracy", "loss"}.isdisjoint(figures(closed_round(0, accuracy=None)))


def test_groups_have_means_of_their_own() -> None:
    found = figures(closed_round(0, groups=(0, 1)))

    assert {name: value for name, value in found.items() if name.startswith("group_")} == {
        "group_0/n_devices": 1.0,
        "group_0/waiting_s": 2.0,
        "group_0/energy_j": 30.0,
        "group_0/train_loss": 0.5,
        "group_1/n_devices": 1.0,
        "group_1/waiting_s": 4.0,
        "group_1/energy_j": 50.0,
    }


def test_devices_outside_of_all_groups_make_none() -> None:
    assert not [name for name in figures(closed_round(0, groups=(0, -1))) if name.startswith("group_")]


def test_settings_are_named_by_their_key_paths() -> None:
    assert flat({"rounds": 3, "data": {"partition": {"alpha": 0.5}}}) == {"rounds": 3, "data.partition.alpha": 0.5}
