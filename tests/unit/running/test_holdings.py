"""The realised partition in figures that can be checked by hand."""

import numpy as np
import pytest

from emulator.running.holdings import holdings


def test_devices_with_labels_of_their_own_are_half_away_from_all() -> None:
    counts = np.array([[4, 0], [0, 4]])
    found = holdings("shards", counts, ["a", "a"])
    assert found["scheme"] == "shards"
    assert found["devices"]["all"]["label_distance"] == pytest.approx(0.5)  # |1 - 1/2| and |0 - 1/2|, halved
    assert found["devices"]["all"]["mean_n_labels"] == 1
    assert list(found["devices"]) == ["all"]  # one board is all


def test_each_board_has_its_own_figures_against_the_labels_of_all() -> None:
    counts = np.array([[1, 1], [2, 2], [6, 0]])
    found = holdings("speed", counts, ["slow", "slow", "fast"])["devices"]
    assert found["all"]["n_examples"] == {"least": 2, "median": 4.0, "mean": 4.0, "most": 6}
    assert found["slow"]["n_devices"] == 2
    assert found["slow"]["n_examples"]["mean"] == 3.0
    assert found["fast"]["label_distance"] == pytest.approx(0.25)  # 9 of 12 rows have the first label
