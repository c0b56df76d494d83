"""The counts of a partition come back from its file."""

from pathlib import Path

import numpy as np
import pytest

from emulator.errors import UserError
from emulator.results.partition import FILE, read_partition, write_partition


def test_every_label_that_a_device_holds_has_a_row(tmp_path: Path) -> None:
    write_partition(tmp_path, np.array([[3, 0], [1, 2]]), ("bad", "good"))
    assert read_partition(tmp_path).values.tolist() == [[0, "bad", 3], [1, "bad", 1], [1, "good", 2]]


def test_without_labels_a_device_has_one_row(tmp_path: Path) -> None:
    write_partition(tmp_path, np.array([[3], [5]]), ())
    frame = read_partition(tmp_path)
    assert frame["n_examples"].tolist() == [3, 5]
    assert frame["label"].isna().all()


def test_a_run_without_one_has_none_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    assert read_partition(tmp_path).empty
    (tmp_path / FILE).write_bytes(b"PAR1")
    with pytest.raises(UserError, match="is damaged"):
        read_partition(tmp_path)
