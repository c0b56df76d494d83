"""Reads what a board drew from a log of ``tegrastats``, or of the logger that comes with jtop (jetson-stats).

A log has samples at rest and at work, told apart by the load of the GPU. Which rails are the whole board is told by
their names, as for rails that are read directly. jtop takes the total out of its rails where there is one, as ``Power
TOT``; where there is none it adds up all of them, also those that another one feeds, so that its total is not used then
(jetson-stats 4.2, jtop/core/power.py and jtop/jtop.py).
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from device_profiles.text_files import FileError, lines_of
from emulator.calibration.profile_file import PowerFigures
from emulator.calibration.rails import WITHIN_OTHERS, whole_board_labels
from emulator.errors import ConfigError

MOST_LINES = 1_000_000
LEAST_SAMPLES = 5
"""Of each kind, at rest and at work."""
MOST_IDLE_PERCENT, LEAST_BUSY_PERCENT = 5.0, 50.0
"""Loads of the GPU at which a board is at rest and at work; what lies between is neither."""

JTOP_TOTAL = "TOT"
_JTOP_RAIL = "Power "
_LOAD = re.compile(r"\bGR3D_FREQ (\d+)%")
_RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]+) (\d+)(?:mW)?/\d+(?:mW)?(?!\S)")
_LABEL = re.compile(r"[A-Z][A-Z0-9_]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LoggedPower:
    """One sample: the load of the GPU (percent), and what each rail carried (W)."""

    load_percent: float
    rails_w: Mapping[str, float]


def power_of_log(path: Path) -> PowerFigures:
    """What the board drew at rest and at work: means of the samples. Transfers have the figure at rest.

    Raises:
        ConfigError: the file cannot be read, is no such log, or has too few samples of one kind.
    """
    try:
        lines = [line for _, line in lines_of(path, MOST_LINES)]
    except FileError as error:
        raise ConfigError(f"--power-log: {str(path)!r} {error}") from None
    samples = list(_tegrastats(lines)) or list(_jtop(lines))
    if not samples:
        raise ConfigError(
            f"--power-log: {str(path)!r} is no log of tegrastats, which has GR3D_FREQ and rails such as 'VDD_IN 3250mW/"
            "3250mW' in a line, nor of jtop's logger, which has the columns GPU and 'Power ...'"
        )
    rails = _whole_board(samples)
    idle_w = [_watts(sample, rails) for sample in samples if sample.load_percent <= MOST_IDLE_PERCENT]
    busy_w = [_watts(sample, rails) for sample in samples if sample.load_percent >= LEAST_BUSY_PERCENT]
    if min(len(idle_w), len(busy_w)) < LEAST_SAMPLES:
        raise ConfigError(
            f"--power-log: {str(path)!r} has {len(idle_w)} samples at rest (GPU at most {MOST_IDLE_PERCENT:g} %) and "
            f"{len(busy_w)} at work (at least {LEAST_BUSY_PERCENT:g} %), and needs {LEAST_SAMPLES} of each: log a "
            "minute of rest and a minute of training into one file"
        )
    at_rest_w, at_work_w = sum(idle_w) / len(idle_w), sum(busy_w) / len(busy_w)
    what = "rail" if len(rails) == 1 else "sum of the rails"
    return PowerFigures(
        idle_w=at_rest_w,
        compute_w=max(at_rest_w, at_work_w),
        transfer_w=at_rest_w,
        kind="measured",
        source=f"jetbed calibrate: the log {path.name}, {what} {', '.join(rails)}",
        note=f"Means of {len(idle_w)} samples with the GPU at most {MOST_IDLE_PERCENT:g} % busy and of {len(busy_w)} "
        f"with at least {LEAST_BUSY_PERCENT:g} %. Transfers were not measured: the idle figure is repeated.",
    )


def _tegrastats(lines: Sequence[str]) -> Iterator[LoggedPower]:
    for line in lines:
        load, rails = _LOAD.search(line), _RAIL.findall(line)
        if load and rails:
            yield LoggedPower(float(load[1]), {label: int(milliwatts) / 1e3 for label, milliwatts in rails})


def _jtop(lines: Sequence[str]) -> Iterator[LoggedPower]:
    """Rows that are whole; the last one of a log that was cut off may not be."""
    for row in csv.DictReader(lines):
        rails = {key.removeprefix(_JTOP_RAIL): row[key] for key in row if key and key.startswith(_JTOP_RAIL)}
        try:
            rails_w = {label: float(text) / 1e3 for label, text in rails.items() if _LABEL.fullmatch(label)}
            load_percent = float(row["GPU"])
        except (KeyError, TypeError, ValueError):
            continue
        if rails_w:
            yield LoggedPower(load_percent, rails_w)


def _whole_board(samples: Sequence[LoggedPower]) -> tuple[str, ...]:
    """The rails, of those that every sample has, that together are the board."""
    common = [label for label in samples[0].rails_w if all(label in sample.rails_w for sample in samples)]
    monitored = [label for label in common if label != JTOP_TOTAL]
    has_inputs = any(label in monitored for label in WITHIN_OTHERS.values())
    if JTOP_TOTAL in common and not has_inputs:
        return (JTOP_TOTAL,)
    return tuple(whole_board_labels(monitored))


def _watts(sample: LoggedPower, rails: Sequence[str]) -> float:
    return sum(sample.rails_w[label] for label in rails)
