"""How far off a calibration by a few samples is, beside a full one, from one number of threads to another.

    python -m benchmarks.few_samples [--samples 12] [--threads 1 2] [--quick] [--csv FILE]

times the grid of ``jetbed calibrate`` and the unseen settings of ``jetbed validate`` on this machine's CPU, which
should do nothing else, with each number of threads: in fp32, and a quarter of them with mixed precision. A full
calibration is fitted to all of the grid. One by samples takes the full one of another number of threads for the known
board, and so many of the timed settings. Printed is by how much both miss the unseen settings. With mixed precision the
full one has a rate fitted to what was timed with it, the other that of its fp32 times the known board's ratio. Some
twenty minutes on two cores.
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

from device_profiles.records import StepLaw
from emulator.calibration.fit import Fit, fit_rate, fit_steps, mode_of
from emulator.calibration.measurement import MeasuredStep, TimingMethod, measure
from emulator.calibration.step_settings import grid, quick_unseen, unseen
from emulator.calibration.transfer import fit_like, samples_like
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_time import step_time

_LAW: StepLaw = "in_turn"
_AMP_EVERY = 4
_TURNS, _QUICK_TURNS = 5, 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """What one number of threads took: of the grid and of unseen settings, in both precisions."""

    grid: tuple[MeasuredStep, ...]
    unseen: tuple[MeasuredStep, ...]
    amp_grid: tuple[MeasuredStep, ...]
    amp_unseen: tuple[MeasuredStep, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A calibration: its figures, and its rate with mixed precision."""

    fit: Fit
    amp_flop_per_s: float


def timed(n_threads: int, *, quick: bool) -> Timed:
    """Time all settings with so many threads."""
    settings, others = grid(quick=quick), quick_unseen() if quick else unseen()
    method = TimingMethod(device="cpu", n_threads=n_threads, n_turns=_QUICK_TURNS if quick else _TURNS)
    amp = replace(method, precision="amp")
    return Timed(
        grid=measure(settings, method, lambda _: None),
        unseen=measure(others, method, lambda _: None),
        amp_grid=measure(settings[::_AMP_EVERY], amp, lambda _: None),
        amp_unseen=measure(others[::_AMP_EVERY], amp, lambda _: None),
    )


def full(steps: Timed) -> Fitted:
    """Fitted to all that was timed."""
    fit = fit_steps(steps.grid, _LAW)
    return Fitted(fit=fit, amp_flop_per_s=fit_rate(steps.amp_grid, fit))


def by_samples(steps: Timed, known: Fitted, n_samples: int) -> Fitted:
    """Fitted to the steps of so many settings, with the law of ``known``."""
    mode = mode_of(known.fit.law, _figures(known.fit), "fp32")
    chosen = set(samples_like(mode, [step.setting for step in steps.grid], n_samples))
    fit = fit_like([step for step in steps.grid if step.setting in chosen], mode)
    return Fitted(fit=fit, amp_flop_per_s=fit.flop_per_s * known.amp_flop_per_s / known.fit.flop_per_s)


def errors(fitted: Fitted, steps: Sequence[MeasuredStep]) -> list[float]:
    """Priced over timed seconds, less 1, of each step, without signs."""
    found = []
    for step in steps:
        _, *rest = _figures(fitted.fit)
        rate = fitted.fit.flop_per_s if step.precision == "fp32" else fitted.amp_flop_per_s
        demand = step_of(step.setting.model, step.setting.work, step.precision).demand()
        priced_s = step_time(demand, mode_of(fitted.fit.law, (rate, *rest), step.precision), step.precision).step_s
        found.append(abs(priced_s / step.step_s - 1))
    return found


def rows_of(by_threads: Mapping[int, Timed], n_samples: int) -> list[Mapping[str, str]]:
    """A row for each number of threads, each that its law is taken from, and each precision."""
    fulls = {n_threads: full(steps) for n_threads, steps in by_threads.items()}
    rows: list[Mapping[str, str]] = []
    for n_threads, known in permutations(by_threads, 2):
        steps = by_threads[n_threads]
        few = by_samples(steps, fulls[known], n_samples)
        for precision, held_against in (("fp32", steps.unseen), ("amp", steps.amp_unseen)):
            row = {"threads": str(n_threads), "like": str(known), "precision": precision}
            for name, fitted in (("full", fulls[n_threads]), (f"{n_samples} samples", few)):
                found = errors(fitted, held_against)
                row |= {f"{name}, mean": f"{sum(found) / len(found):.1%}", f"{name}, worst": f"{max(found):.1%}"}
            rows.append(row)
    return rows


def _figures(fit: Fit) -> tuple[float, float, float, float]:
    return fit.flop_per_s, fit.memory_bytes_per_s, fit.dispatch_s, fit.step_overhead_s


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--threads", type=int, nargs=2, default=(1, 2))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args(arguments)
    by_threads = {n_threads: timed(n_threads, quick=options.quick) for n_threads in options.threads}
    rows = rows_of(by_threads, options.samples)
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(row.values()))
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
