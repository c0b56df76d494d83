"""All policies side by side, from their tables: ``python -m benchmarks.systems [--out FOLDER] [--page FILE]``.

Runs ``benchmarks/systems.toml`` (about a minute per policy on two cores), or goes on where it was, and writes the page
``benchmarks/systems.md``. Nothing on that page is typed by hand.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from emulator import load
from emulator.analysis.costs import final_score
from emulator.analysis.metrics import Question, measure
from emulator.report.terminal.units import duration
from emulator.results.reader import RunFrames, SweepFrames

SWEEP = Path(__file__).parent / "systems.toml"
BASELINE = "fedlora"

COLUMNS = (
    "policy",
    "final accuracy",
    "accuracy in {budget}",
    "time to target",
    "over FedLoRA's",
    "bytes to target, GB",
    "energy to target, kJ",
    "20 rounds take",
    "mean waiting, s",
    "bytes, GB",
    "energy, kJ",
    "largest peak memory, GB",
    "lost device-rounds",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """A policy's run, measured; ``values`` are the metrics of ``docs/metrics.md``."""

    policy: str
    values: dict[str, float | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/systems"), help="the sweep's folder")
    parser.add_argument("--page", type=Path, default=SWEEP.with_suffix(".md"), help="the page to write")
    options = parser.parse_args()
    command = [sys.executable, "-m", "emulator.cli", "sweep", str(SWEEP), "--out", str(options.out)]
    status = subprocess.run(command, check=False).returncode
    if status not in (0, 1):  # 1: some run failed, and the page says which
        sys.exit(status)
    sweep = load(options.out)
    assert isinstance(sweep, SweepFrames)
    options.page.write_text(page(sweep), encoding="utf-8")
    print(f"wrote {options.page}")


def page(sweep: SweepFrames) -> str:
    """The page, as Markdown."""
    finished = sweep.runs[sweep.runs["status"] == "finished"]
    runs = {str(row["policy"]): sweep.run(str(row["run"])) for _, row in finished.iterrows()}
    if BASELINE not in runs:
        raise SystemExit(f"the run of the baseline {BASELINE!r} is not finished, so there is no target to compare with")
    rounds = runs[BASELINE].rounds
    target, budget_s = final_score(rounds), float(rounds["end_s"].iloc[-1]) / 2
    assert target is not None
    question = Question(target=target, budget_s=budget_s)
    systems = sorted((measured(policy, run, question) for policy, run in runs.items()), key=_order)
    info = runs[BASELINE].info
    config = info["config"]
    header = [
        "# All policies on one testbed",
        "",
        f"{info['n_devices']} devices ({info['cluster']}), {config['rounds']} rounds, seed {config['seed']}; trained "
        f"model `{info['trained_model']}`, priced as `{info['priced_model']}` at {info['priced_seq_len']} tokens; "
        "every policy with its own defaults.",
        f"The target is the accuracy that FedLoRA has at the end, {target:.3f}; always to name the largest class gives "
        f"{info['majority_accuracy']:.3f}. The budget is half of the time that FedLoRA takes.",
        "One seed tells no small difference: two percentage points are noise.",
        "",
        "Made by `python -m benchmarks.systems` from Parquet; `docs/metrics.md` defines the figures.",
        "",
    ]
    columns = [column.format(budget=duration(budget_s)) for column in COLUMNS]
    table = pd.DataFrame([_cells(system, systems) for system in systems], columns=columns)
    failed = sweep.runs[sweep.runs["status"] != "finished"]
    notes = [f"- `{row['policy']}` did not finish ({row['status']}): {row['error']}" for _, row in failed.iterrows()]
    return "\n".join([*header, _markdown(table), "", _reading(systems), *notes]).rstrip() + "\n"


def measured(policy: str, run: RunFrames, question: Question) -> System:
    """All metrics of a run."""
    return System(policy=policy, values=measure(run.rounds, run.devices, question))


def _order(system: System) -> tuple[float, float]:
    """Who reaches the target first comes first; then by final accuracy."""
    time_s = system.values["time_to_target_s"]
    return (float("inf") if time_s is None else time_s, -(system.values["final_accuracy"] or 0.0))


def _cells(system: System, systems: list[System]) -> list[str]:
    values = system.values
    baseline_s = next(other.values["time_to_target_s"] for other in systems if other.policy == BASELINE)
    time_s = values["time_to_target_s"]
    assert baseline_s is not None
    lost = sum(values[name] or 0.0 for name in ("n_out_of_memory", "n_dropped", "n_late"))
    return [
        f"`{system.policy}`",
        _number(values["final_accuracy"], 1.0, 3),
        _number(values["accuracy_in_time"], 1.0, 3),
        "not reached" if time_s is None else duration(time_s),
        "–" if time_s is None else f"{time_s / baseline_s:.2f}",
        _number(values["total_to_target_bytes"], 1e9, 2),
        _number(values["energy_to_target_j"], 1e3, 0),
        duration(values["time_s"] or 0.0),
        _number(values["mean_waiting_s"], 1.0, 1),
        _number(values["total_bytes"], 1e9, 2),
        _number(values["energy_j"], 1e3, 0),
        _number(values["peak_memory_max_bytes"], 1e9, 2),
        f"{lost:.0f}",
    ]


def _reading(systems: list[System]) -> str:
    faster = [s.policy for s in systems if _order(s) < _order(_named(systems, BASELINE))]
    missing = [s.policy for s in systems if s.values["time_to_target_s"] is None]
    lines = [
        f"Sooner at the target than FedLoRA: {_listed(faster)}.",
        f"Not at the target within these rounds: {_listed(missing)}.",
    ]
    return "\n".join(lines)


def _named(systems: list[System], policy: str) -> System:
    return next(system for system in systems if system.policy == policy)


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nobody"


def _number(value: float | None, unit: float, digits: int) -> str:
    return "–" if value is None else f"{value / unit:.{digits}f}"


def _markdown(table: pd.DataFrame) -> str:
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


if __name__ == "__main__":
    main()
