"""Quantities and curves in text."""

import pytest

from emulator.report.terminal.units import curve, duration, energy, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (90, "90.0 s"), (210, "3.5 min"), (3 * 3600, "3.0 h"), (5 * 86_400, "5.0 d")],
)
def test_durations_have_the_unit_that_suits_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (999_960, "1.0 MB"), (2.3e15, "2300.0 TB")],
)
def test_sizes_have_decimal_prefixes(n_bytes: float, text: str) -> None:
    assert size(n_bytes) == text


def test_energy_is_in_joules_and_watt_hours() -> None:
    assert energy(7200) == "7.2 kJ (2 Wh)"
    assert energy(1800) == "1.8 kJ (0.5 Wh)"


def test_a_curve_is_a_step_at_each_point() -> None:
    # Four columns end at 10, 20, 30 and 40 s. Nothing is known at 10 s; 0.5 is the lowest value, hence one eighth; one
    # row has eight marks, and 0.75 is the highest.
    top, axis, times = curve([(20.0, 0.5), (40.0, 0.75)], width=4, height=1)
    assert top == "  0.750 ┤ ▁▁█"
    assert axis == "        └────"
    assert times == "         040.0 s"


def test_a_curve_of_several_rows_has_the_range_at_its_axis() -> None:
    lines = curve([(10.0, 0.2), (20.0, 0.4), (40.0, 0.8)], width=40, height=4)
    assert [line[:9] for line in lines[:4]] == ["  0.800 ┤", "        ┤", "        ┤", "  0.200 ┤"]
    # 0.8 is reached in the last column alone, and fills all four rows.
    assert [line[9:].rstrip()[-1:] for line in lines[:4]] == ["█"] * 4
    assert lines[0][9:-1].strip() == ""
    assert lines[-1].endswith("40.0 s")
    assert len(lines[-1]) == 9 + 40


def test_a_flat_curve_and_no_curve_can_be_drawn() -> None:
    assert curve([]) == []
    assert curve([(1.0, 0.5), (2.0, 0.5)], width=2, height=1)[0] == "  0.500 ┤██"
