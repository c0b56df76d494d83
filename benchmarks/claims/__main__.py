"""Runs the sweeps of the six systems' claims and shows the papers' figures beside the measured ones.

``python -m benchmarks.claims [SYSTEM ...] [--size small|full] [--out FOLDER]``
"""

import argparse
import subprocess
import sys
import tomllib
from pathlib import Path

from benchmarks.claims.gates import GATES, Gate
from emulator import load
from emulator.analysis.comparison import Comparison, compare
from emulator.analysis.statistics import mean_over_seeds
from emulator.results.reader import SweepFrames

HERE = Path(__file__).parent
SYSTEMS = tuple(dict.fromkeys(gate.system for gate in GATES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", choices=[*SYSTEMS, []], help="all of them without")
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--out", type=Path, default=Path("runs/claims"), help="a folder; each sweep has its own in it")
    options = parser.parse_args()
    lines = ["| gate | compared | paper | measured | must | |", "|---|---|---|---|---|---|"]
    for system in options.systems or SYSTEMS:
        folder = options.out / f"{system}-{options.size}"
        sweep = run(system, options.size, folder)
        lines += [row(gate, sweep) for gate in GATES if gate.system == system]
    print("\n".join(lines))


def run(system: str, size: str, folder: Path) -> SweepFrames:
    """Run a claim's sweep, or go on where it was; the sweep's folder."""
    command = [sys.executable, "-m", "emulator.cli", "sweep", str(HERE / f"{system}.toml"), "--out", str(folder)]
    for key, value in settings(tomllib.loads((HERE / f"{size}.toml").read_text(encoding="utf-8"))):
        command += ["--set", f"{key}={value}"]
    status = subprocess.run(command, check=False).returncode
    if status not in (0, 1):
        sys.exit(status)
    sweep = load(folder)
    assert isinstance(sweep, SweepFrames)
    return sweep


def settings(table: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    """The leaves of a table, by their key paths."""
    found: list[tuple[str, object]] = []
    for key, value in table.items():
        found += settings(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return found


def row(gate: Gate, sweep: SweepFrames) -> str:
    """A gate's line: what the paper says, what was measured over the seeds, and whether the bound is met."""
    compared = compare(sweep, baseline=gate.baseline)
    value, shown = difference(gate, compared) if gate.kind == "difference" else ratio(gate, compared)
    bound = f">= {gate.at_least:g}" if gate.at_least is not None else f"<= {gate.at_most:g}"
    if value is None:
        verdict = "cannot be told"
    else:
        low, high = gate.at_least, gate.at_most
        verdict = "met" if (low is None or value >= low) and (high is None or value <= high) else "**missed**"
    what = f"{gate.what}: {gate.group} and {gate.baseline}"
    return f"| {gate.key} | {what} | {gate.paper} | {shown} | {bound} | {verdict} |"


def ratio(gate: Gate, compared: Comparison) -> tuple[float | None, str]:
    """The paired geometric mean over seeds with its interval."""
    groups = compared.groups
    [found] = groups[(groups["group"] == gate.group) & (groups["metric"] == gate.metric)].to_dict("records")
    values = [found["ratio"], found["ratio_low"], found["ratio_high"]]
    if values[0] != values[0]:  # NaN
        return None, f"{found['n_values']} of {found['n_runs']} seeds have it"
    if gate.kind == "speed_up":
        values = [1 / values[0], 1 / values[2], 1 / values[1]]
    return values[0], _with_interval(values, int(found["n_pairs"]))


def difference(gate: Gate, compared: Comparison) -> tuple[float | None, str]:
    """The paired mean difference over seeds with its interval, in points."""
    runs = compared.runs
    by_seed = {name: runs[runs["group"] == name].set_index("seed")[gate.metric] for name in (gate.group, gate.baseline)}
    points = (100 * (by_seed[gate.group] - by_seed[gate.baseline])).dropna().tolist()
    estimate = mean_over_seeds(points)
    if estimate is None:
        return None, "no seed has both"
    nan = float("nan")
    interval = [nan if bound is None else bound for bound in (estimate.low, estimate.high)]
    return estimate.mean, _with_interval([estimate.mean, *interval], estimate.n)


def _with_interval(values: list[float], n: int) -> str:
    mean, low, high = values
    interval = "" if low != low else f" ({low:.2f} to {high:.2f})"
    return f"{mean:.2f}{interval}, n = {n}"


if __name__ == "__main__":
    main()
