"""Timed steps that no machine took: what the cost model says of invented figures, with noise."""

from collections.abc import Sequence

import numpy as np

from device_profiles.records import StepLaw
from emulator.calibration.fit import mode_of
from emulator.calibration.measurement import MeasuredStep
from emulator.calibration.step_settings import StepSetting, grid
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_time import step_time

FIGURES = (1e11, 1.2e10, 8e-6, 4e-4)
"""100 GFLOP/s, 12 GB/s, 8 us an operation, 0.4 ms a step."""


def made_up_steps(
    law: StepLaw,
    figures: Sequence[float] = FIGURES,
    noise_fraction: float = 0.0,
    settings: Sequence[StepSetting] | None = None,
    precision: str = "fp32",
) -> tuple[MeasuredStep, ...]:
    rng = np.random.default_rng(3)
    mode = mode_of(law, figures, precision)
    steps = []
    for setting in settings or grid(quick=False):
        seconds = step_time(step_of(setting.model, setting.work, precision).demand(), mode, precision).step_s
        seconds *= float(1 + noise_fraction * rng.standard_normal())
        steps.append(
            MeasuredStep(
                setting=setting,
                precision=precision,
                step_s=seconds,
                median_step_s=1.02 * seconds,
                n_steps=5,
                peak_memory_bytes=10**8,
            )
        )
    return tuple(steps)
