"""A known board's law is found again on a machine of which a dozen steps were timed."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from device_profiles.catalog import load_profile
from device_profiles.records import PowerMode, StepLaw
from emulator.calibration.fit import Fit, FitError, fit_steps, mode_of
from emulator.calibration.step_settings import StepSetting, grid, shape_of, unseen
from emulator.calibration.transfer import LEAST_SAMPLES, fit_like, samples_like
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_time import step_time
from tests.unit.calibration.made_up_steps import FIGURES, made_up_steps

KNOWN = mode_of("in_turn", FIGURES, "fp32")


def machine(factors: Sequence[float]) -> tuple[float, float, float, float]:
    """Figures of one that is slower than KNOWN by these factors in arithmetic, memory, and each operation and step."""
    arithmetic, memory, overhead = factors
    rate, bandwidth, dispatch_s, step_s = FIGURES
    return rate / arithmetic, bandwidth / memory, dispatch_s * overhead, step_s * overhead


def mean_error(fit: Fit, figures: Sequence[float], settings: Sequence[StepSetting]) -> float:
    """Of the seconds that a fit prices ``settings`` at, against a machine of these figures."""
    fitted = (fit.flop_per_s, fit.memory_bytes_per_s, fit.dispatch_s, fit.step_overhead_s)
    guess, truth = mode_of(fit.law, fitted, "fp32"), mode_of(fit.law, figures, "fp32")
    demands = [step_of(setting.model, setting.work, "fp32").demand() for setting in settings]
    errors = [step_time(each, guess, "fp32").step_s / step_time(each, truth, "fp32").step_s - 1 for each in demands]
    return float(np.mean(np.abs(errors)))


@pytest.mark.parametrize("law", ["in_turn", "queued", "roofline"])
def test_one_factor_for_all_is_found_from_the_fewest_steps(law: StepLaw) -> None:
    known = replace(KNOWN, step_law=law)
    settings = samples_like(known, grid(quick=False), LEAST_SAMPLES)
    steps = made_up_steps(law, machine((3, 3, 3)), settings=settings)
    fit = fit_like(steps, known)
    found = (fit.flop_per_s, fit.memory_bytes_per_s, fit.dispatch_s, fit.step_overhead_s)
    assert found == pytest.approx(machine((3, 3, 3)), rel=1e-5)
    assert fit.law == law
    assert fit.worst_error_fraction < 1e-5


@pytest.mark.parametrize("factors", [(2, 1.2, 1.5), (0.5, 0.8, 1), (6, 3, 9)])
def test_a_dozen_noisy_steps_price_unseen_ones_nearly_as_well_as_a_full_calibration(factors: Sequence[float]) -> None:
    figures, noise = machine(factors), 0.03
    few = fit_like(made_up_steps("in_turn", figures, noise, samples_like(KNOWN, grid(quick=False), 12)), KNOWN)
    full = fit_steps(made_up_steps("in_turn", figures, noise), "in_turn")
    settings = unseen()
    assert mean_error(full, figures, settings) < noise
    assert mean_error(few, figures, settings) < 0.05
    assert few.flop_per_s == pytest.approx(figures[0], rel=0.1)


def test_a_part_that_no_step_tells_goes_with_the_others() -> None:
    known = mode_of("in_turn", (1e11, 1e15, 0.0, 1e-3), "fp32")  # memory takes no time at all
    steps = made_up_steps("in_turn", (5e10, 1e15, 0.0, 2e-3), settings=samples_like(known, grid(quick=False), 8))
    fit = fit_like(steps, known)
    assert fit.flop_per_s == pytest.approx(5e10, rel=1e-3)
    assert fit.memory_bytes_per_s == pytest.approx(5e14, rel=0.02)
    assert fit.spread["memory_bytes_per_s"] > 5 * fit.spread["flop_per_s"]


def test_a_step_that_was_disturbed_moves_little() -> None:
    figures = machine((2, 2, 2))
    steps = list(made_up_steps("in_turn", figures, settings=samples_like(KNOWN, grid(quick=False), 12)))
    steps[4] = replace(steps[4], step_s=4 * steps[4].step_s)
    assert mean_error(fit_like(steps, KNOWN), figures, unseen()) < 0.05


def test_samples_are_distinct_and_of_every_part() -> None:
    chosen = samples_like(KNOWN, grid(quick=False), 12)
    assert len(set(chosen)) == 12
    assert list(chosen) == sorted(chosen, key=shape_of)
    assert samples_like(KNOWN, grid(quick=False), 12) == chosen
    demands = [step_of(setting.model, setting.work, "fp32").demand() for setting in chosen]
    flop = [(each.forward_flop + each.backward_flop) / FIGURES[0] for each in demands]
    dispatch = [(each.n_forward_operations + each.n_backward_operations) * FIGURES[2] for each in demands]
    assert any(a > 2 * b for a, b in zip(flop, dispatch, strict=True))
    assert any(b > 2 * a for a, b in zip(flop, dispatch, strict=True))


def test_no_more_samples_are_taken_than_there_are() -> None:
    assert len(samples_like(KNOWN, grid(quick=True), 1000)) == len(grid(quick=True))


def test_fewer_steps_than_factors_are_refused() -> None:
    with pytest.raises(FitError, match="need at least 4 settings, got 3"):
        fit_like(made_up_steps("in_turn", settings=grid(quick=True)[:3]), KNOWN)


def test_a_built_in_board_can_be_the_known_one() -> None:
    known: PowerMode = load_profile("jetson_orin_nano_8gb").mode("15W")
    figures = (0.245e12, 31e9, 2 * known.dispatch_s, 2 * known.step_overhead_s)
    steps = made_up_steps("roofline", figures, 0.03, samples_like(known, grid(quick=False), 12))
    assert mean_error(fit_like(steps, known), figures, unseen()) < 0.05
