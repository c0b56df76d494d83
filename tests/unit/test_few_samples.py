"""A calibration by samples is held against a full one on steps that neither has seen."""

import pytest

from benchmarks.few_samples import Timed, errors, full, rows_of
from emulator.calibration.step_settings import grid, unseen
from tests.unit.calibration.made_up_steps import FIGURES, made_up_steps


def machine(slower: float) -> Timed:
    """One that takes ``slower`` times as long in all parts, and is twice as fast with mixed precision."""
    rate, bandwidth, dispatch_s, step_s = FIGURES
    rest = (bandwidth / slower, dispatch_s * slower, step_s * slower)
    settings = grid(quick=False)
    return Timed(
        grid=made_up_steps("in_turn", (rate / slower, *rest)),
        unseen=made_up_steps("in_turn", (rate / slower, *rest), settings=unseen()),
        amp_grid=made_up_steps("in_turn", (2 * rate / slower, *rest), settings=settings[::4], precision="amp"),
        amp_unseen=made_up_steps("in_turn", (2 * rate / slower, *rest), settings=unseen()[::4], precision="amp"),
    )


def test_both_find_a_machine_again_that_follows_the_law() -> None:
    by_threads = {1: machine(2.0), 2: machine(1.0)}
    rows = rows_of(by_threads, 12)
    assert [(row["threads"], row["like"], row["precision"]) for row in rows] == [
        ("1", "2", "fp32"), ("1", "2", "amp"), ("2", "1", "fp32"), ("2", "1", "amp"),
    ]  # fmt: skip
    for row in rows:
        assert float(row["full, mean"].rstrip("%")) < 3
        assert float(row["12 samples, mean"].rstrip("%")) < 3


def test_errors_are_those_of_the_priced_seconds() -> None:
    fitted = full(machine(1.0))
    slower = machine(1.25)
    assert errors(fitted, slower.unseen) == pytest.approx([0.2] * 25, abs=0.02)
