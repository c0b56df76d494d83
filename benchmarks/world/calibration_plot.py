"""Draws what ``jetbed validate`` found: priced beside measured seconds of steps that no profile was fitted to."""

import csv
from pathlib import Path
from typing import Any

MARKERS = {"adapters": "o", "weights": "s", "inference": "^"}
GOAL_FRACTION, LIMIT_FRACTION = 0.12, 0.30  # wanted of the mean error, and of the worst


def draw_calibration(axes: Any, path: Path) -> None:
    """A point for each setting in the file that ``jetbed validate --csv`` wrote; its first line says what it is."""
    with path.open() as file:
        heading = file.readline().lstrip("# ").strip()
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    measured_s = [float(row["step_s"]) for row in rows]
    span_s = (0.7 * min(measured_s), 1.4 * max(measured_s))
    for error, shade in ((LIMIT_FRACTION, 0.08), (GOAL_FRACTION, 0.15)):
        low, high = ([(1 + sign * error) * bound for bound in span_s] for sign in (-1, 1))
        axes.fill_between(span_s, low, high, color="black", alpha=shade, linewidth=0, label=f"±{error:.0%}")
    axes.plot(span_s, span_s, color="black", linewidth=0.8)
    for kind, marker in MARKERS.items():
        chosen = [row for row in rows if row["kind"] == kind]
        points = [(float(row["step_s"]), float(row["predicted_s"])) for row in chosen]
        if points:
            axes.plot(*zip(*points, strict=True), marker, markersize=5, label=kind)
    errors = [abs(float(row["error_fraction"])) for row in rows]
    axes.set(xscale="log", yscale="log", xlim=span_s, ylim=span_s)
    axes.set(xlabel="measured step (s)", ylabel="priced step (s)")
    found = f"{len(errors)} settings, error {sum(errors) / len(errors):.1%} in the mean, {max(errors):.1%} at worst"
    axes.set_title(f"{heading.removeprefix('jetbed validate: ')}\n{found}", fontsize=9)
    axes.legend(fontsize=8, loc="lower right")
