"""Holds a profile against steps that were timed: what it prices them at, by the functions of ``jetbed price``."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from device_profiles.records import DeviceProfile, PowerMode
from emulator.calibration.measurement import MeasuredStep
from emulator.calibration.process_peak import ProcessPeak
from emulator.calibration.profile_file import step_row
from emulator.calibration.step_settings import StepSetting
from emulator.world.price.price_bands import price_step


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """A timed step beside its price. ``outside`` is the first setting outside the profile's known range.

    ``measured_memory_bytes`` is the peak of a process of its own, or, where there was none, what was held in the timing
    one beyond its runtime; ``predicted_memory_bytes`` is the same of the price, as the profile's allocator holds it.
    """

    step: MeasuredStep
    predicted_s: float
    measured_memory_bytes: int | None
    predicted_memory_bytes: int
    outside: str | None

    @property
    def error_fraction(self) -> float:
        """Predicted over measured seconds, less 1."""
        return self.predicted_s / self.step.step_s - 1

    @property
    def memory_error_fraction(self) -> float | None:
        """Predicted over measured bytes, less 1; None where memory was not measured."""
        measured = self.measured_memory_bytes
        return self.predicted_memory_bytes / measured - 1 if measured and measured > 0 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Overall:
    """Errors over some timed settings, without their signs; of memory None where none was measured."""

    n_settings: int
    mean_error_fraction: float
    worst_error_fraction: float
    mean_memory_error_fraction: float | None
    worst_memory_error_fraction: float | None


def agreements_of(
    profile: DeviceProfile,
    mode: PowerMode,
    steps: Sequence[MeasuredStep],
    processes: Mapping[StepSetting, ProcessPeak] | None = None,
) -> tuple[Agreement, ...]:
    """The price of each of ``steps`` on a board in ``mode``, beside what was measured.

    Their memory is that of ``processes`` where these are given: with the runtime of the profile, or, if it states
    none, as it was measured there.
    """
    found = []
    for step in steps:
        price = price_step(profile, mode, step.setting.model, step.setting.work, step.precision)
        process = (processes or {}).get(step.setting)
        runtime_bytes = (profile.runtime_memory_bytes or process.runtime_bytes) if process else 0
        found.append(
            Agreement(
                step=step,
                predicted_s=price.step_s.value,
                measured_memory_bytes=process.peak_bytes if process else step.peak_memory_bytes,
                predicted_memory_bytes=price.memory.total_bytes + runtime_bytes,
                outside=price.outside,
            )
        )
    return tuple(found)


def overall(agreements: Sequence[Agreement]) -> Overall:
    """The errors of agreements together, of which there is at least one."""
    errors = [abs(each.error_fraction) for each in agreements]
    of_memory = [abs(each.memory_error_fraction) for each in agreements if each.memory_error_fraction is not None]
    return Overall(
        n_settings=len(errors),
        mean_error_fraction=sum(errors) / len(errors),
        worst_error_fraction=max(errors),
        mean_memory_error_fraction=sum(of_memory) / len(of_memory) if of_memory else None,
        worst_memory_error_fraction=max(of_memory, default=None),
    )


def agreement_row(agreement: Agreement) -> Mapping[str, Any]:
    """What a table says of a step and its price, by column."""
    return {
        **step_row(agreement.step),
        "predicted_s": f"{agreement.predicted_s:.6g}",
        "error_fraction": f"{agreement.error_fraction:.4f}",
        "measured_memory_bytes": agreement.measured_memory_bytes or "",
        "predicted_memory_bytes": agreement.predicted_memory_bytes,
        "outside_known_range": agreement.outside or "",
    }


def agreements_text(agreements: Sequence[Agreement], heading: str) -> str:
    """Steps and prices as CSV under a line that begins with ``#`` and says what they are."""
    text = io.StringIO()
    text.write(f"# {heading}\n")
    rows = [agreement_row(agreement) for agreement in agreements]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
