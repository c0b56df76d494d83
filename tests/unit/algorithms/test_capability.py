"""Classes of devices by speed."""

import pytest

from emulator.algorithms.balancing import speed_classes


def test_the_slowest_quarter_is_class_zero() -> None:
    step_s = {0: 1.0, 1: 8.0, 2: 3.0, 3: 2.0, 4: 7.0, 5: 4.0, 6: 6.0, 7: 5.0}
    # slowest first: 1, 4 | 6, 7 | 5, 2 | 3, 0
    assert speed_classes(step_s, 4) == {1: 0, 4: 0, 6: 1, 7: 1, 5: 2, 2: 2, 3: 3, 0: 3}


def test_equally_fast_devices_are_divided_by_id() -> None:
    assert speed_classes({3: 1.0, 1: 1.0, 2: 1.0}, 3) == {1: 0, 2: 1, 3: 2}


def test_without_devices_there_are_no_classes_and_none_is_refused() -> None:
    assert speed_classes({}, 4) == {}
    with pytest.raises(ValueError, match="at least 1 class of devices, got 0"):
        speed_classes({0: 1.0}, 0)
