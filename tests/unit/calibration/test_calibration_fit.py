"""The fit finds the figures that made-up steps were made of, under any law, and is not led astray by a few of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from device_profiles.records import StepLaw
from emulator.calibration import fit
from emulator.calibration.fit import FIGURES as NAMES
from emulator.calibration.fit import FitError, fit_rate, fit_steps
from emulator.calibration.step_settings import grid
from emulator.world.price.step import StepDemand
from tests.unit.calibration.made_up_steps import FIGURES, made_up_steps


@pytest.mark.parametrize("law", ["in_turn", "queued"])
def test_known_figures_are_found_again(law: StepLaw) -> None:
    found = fit_steps(made_up_steps(law), law)
    assert [getattr(found, name) for name in NAMES] == pytest.approx(list(FIGURES), rel=1e-3)
    assert found.worst_error_fraction < 1e-3


def test_known_figures_are_found_through_noise() -> None:
    found = fit_steps(made_up_steps("in_turn", noise_fraction=0.03), "in_turn")
    assert found.flop_per_s == pytest.approx(FIGURES[0], rel=0.05)
    assert found.memory_bytes_per_s == pytest.approx(FIGURES[1], rel=0.1)
    assert found.dispatch_s == pytest.approx(FIGURES[2], rel=0.15)
    assert 0.01 < found.mean_error_fraction < 0.04
    assert 0 < found.spread["flop_per_s"] < 0.1
    assert 0 < found.spread["memory_bytes_per_s"] < 0.3


def test_steps_that_were_disturbed_count_less() -> None:
    steps = list(made_up_steps("in_turn"))
    for number in (3, 17, 30):
        steps[number] = replace(steps[number], step_s=3 * steps[number].step_s)
    found = fit_steps(steps, "in_turn")
    assert found.flop_per_s == pytest.approx(FIGURES[0], rel=0.03)
    assert found.memory_bytes_per_s == pytest.approx(FIGURES[1], rel=0.05)


def test_no_figure_is_negative_where_its_part_takes_no_time() -> None:
    found = fit_steps(made_up_steps("in_turn", (1e11, 1e10, 0.0, 0.0), noise_fraction=0.05), "in_turn")
    assert found.dispatch_s >= 0
    assert found.step_overhead_s >= 0


def test_the_rate_of_half_precision_is_found_with_all_else_known() -> None:
    found = fit_steps(made_up_steps("queued"), "queued")
    amp = made_up_steps("queued", (4e11, *FIGURES[1:]), settings=grid(quick=False)[::4], precision="amp")
    assert fit_rate(amp, found) == pytest.approx(4e11, rel=0.02)


def test_too_few_steps_tell_no_profile() -> None:
    with pytest.raises(FitError, match="got 3"):
        fit_steps(made_up_steps("in_turn")[:3], "in_turn")


def test_steps_that_get_faster_with_more_arithmetic_tell_no_rate() -> None:
    steps = [replace(step, step_s=1e-4 / step.step_s) for step in made_up_steps("in_turn")]
    with pytest.raises(FitError, match="no rate"):
        fit_steps(steps, "in_turn")


def test_a_figure_that_rests_on_one_model_alone_may_be_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, whole = made_up_steps("in_turn"), fit._fitted

    def without_a_model_no_rate(demands: Sequence[StepDemand], *rest: Any) -> tuple[float, ...]:
        if len(demands) < len(steps):
            raise FitError("no rate")
        return whole(demands, *rest)

    monkeypatch.setattr(fit, "_fitted", without_a_model_no_rate)
    assert set(fit_steps(steps, "in_turn").spread.values()) == {1.0}
