"""Live devices beside their virtual twin: the same run, computed and transferred on the wall, and on the virtual clock.

``python -m benchmarks.world.live [--speed X] [--rounds N] [--devices N] [--policies NAME ...] [--json FILE]``

For each policy the run goes once on the virtual clock and once with live devices. Compared are the length of the run,
of each round, and of each activity: the download, computation or upload of a device that stands at the same place in
the device's sequence. What a round's end cuts counts as one. A machine that has other work cannot keep the pace; then
the last lines say which devices lag, and by how much.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from emulator import load
from emulator.backends.ray_run import connected
from emulator.config import load_config
from emulator.launch.execute import execute
from emulator.results.reader import RunFrames

POLICIES = ("legend", "fedlora", "fedbuff", "splitfed")
MOST_OF_ROUND, MOST_OF_ACTIVITY = 0.02, 0.05
"""How much longer a round and an activity may take live than on the virtual clock."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Twins:
    """A live run and its twin on the virtual clock, compared: errors are live over virtual, less 1.

    Attributes:
        policy: of both.
        run_error: of the length of the run.
        rounds: a row for each round, with ``virtual_s`` and ``live_s``.
        round_errors: of the length of each round.
        activities: a row for each activity, with ``device_id``, ``kind``, ``virtual_s``, ``live_s`` and ``error``.
        is_same_sequence: whether each device did the same activities in the same order.
        has_same_loss: whether evaluations agree to the last bit.
        lag: by device, the share of its activities' time by which it was behind.
        warning: what the live run said of its pace.
    """

    policy: str
    run_error: float
    rounds: pd.DataFrame
    round_errors: Sequence[float]
    activities: pd.DataFrame
    is_same_sequence: bool
    has_same_loss: bool
    lag: pd.Series
    warning: str | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=5.0, help="emulated seconds per second of the wall")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4, help="local steps of a round")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), metavar="NAME")
    parser.add_argument("--csv", type=Path, help="write all activities to this file")
    parser.add_argument("--json", type=Path, help="write all that was found to this file, for the page of plots")
    options = parser.parse_args()
    settings: list[tuple[str, object]] = [
        ("rounds", options.rounds),
        ("testbed.cluster", "jetbed8"),
        ("testbed.n_devices", options.devices),
        ("training.local_steps", options.steps),
        ("training.devices_stacked", 1),
        ("data.n_train", 400),
        ("data.n_test", 100),
    ]
    found = []
    with connected(), tempfile.TemporaryDirectory() as folder:
        for policy in options.policies:
            twins = measured(policy, settings, options.speed, Path(folder) / policy)
            show(twins)
            found.append(twins)
    if options.csv:
        pd.concat([twins.activities.assign(policy=twins.policy) for twins in found]).to_csv(options.csv, index=False)
    if options.json:
        what = {"what": "benchmarks.world.live", "n_cores": os.cpu_count(), "n_devices": options.devices}
        policies = [plain(twins) for twins in found]
        options.json.write_text(json.dumps({**what, "speed": options.speed, "policies": policies}, indent=1) + "\n")


def plain(twins: Twins) -> dict[str, object]:
    """What was found of a policy, as JSON has it."""
    return {
        "policy": twins.policy,
        "rounds": twins.rounds.to_dict("records"),
        "activities": twins.activities.drop(columns="error").to_dict("records"),
        "is_same_sequence": twins.is_same_sequence,
        "has_same_loss": twins.has_same_loss,
        "lag": twins.lag.to_dict(),
        "warning": twins.warning,
    }


def measured(policy: str, settings: Sequence[tuple[str, object]], speed: float, folder: Path) -> Twins:
    """Run both twins of a policy in ``folder``, and compare them."""
    own = [*settings, ("policy.path", policy)]
    virtual = execute(load_config(None, [*own, ("backend.kind", "inline")]), folder / "virtual")
    on_wall = [("backend.kind", "live"), ("pace", f"realtime({speed!r})")]
    live = execute(load_config(None, [*own, *on_wall]), folder / "live")
    return compared(policy, load(virtual), load(live))


def compared(policy: str, virtual: RunFrames, live: RunFrames) -> Twins:
    """How far ``live`` is from its twin."""
    lengths = [np.asarray(run.rounds["end_s"] - run.rounds["start_s"]) for run in (virtual, live)]
    pairs = activities(virtual).merge(
        activities(live), on=["device_id", "place"], how="outer", suffixes=("_virtual", "_live")
    )
    both = pairs.dropna(subset=["kind_virtual", "kind_live"])
    is_same = both["kind_virtual"] == both["kind_live"]
    kept = both.loc[is_same & (both["length_s_virtual"] > 0)]
    frame = pd.DataFrame(
        {
            "device_id": kept["device_id"],
            "kind": kept["kind_virtual"],
            "virtual_s": kept["length_s_virtual"],
            "live_s": kept["length_s_live"],
            "error": kept["length_s_live"] / kept["length_s_virtual"] - 1,
        }
    )
    return Twins(
        policy=policy,
        run_error=float(live.rounds["end_s"].iloc[-1] / virtual.rounds["end_s"].iloc[-1] - 1),
        rounds=pd.DataFrame({"virtual_s": lengths[0], "live_s": lengths[1]}),
        round_errors=(lengths[1] / lengths[0] - 1).tolist(),
        activities=frame,
        is_same_sequence=len(both) == len(pairs) and bool(is_same.all()),
        has_same_loss=bool((virtual.rounds["loss"] == live.rounds["loss"]).all()),
        lag=lags(live),
        warning=live.info.get("warning"),
    )


def activities(run: RunFrames) -> pd.DataFrame:
    """What devices did but wait, with its ``place`` in a device's sequence; what a round's end has cut is one."""
    rows = run.activities.loc[run.activities["kind"] != "wait"].sort_values(["device_id", "start_s"], kind="stable")
    before = rows.groupby("device_id").shift()
    goes_on = (
        (before["kind"] == rows["kind"])
        & (before["round_index"] < rows["round_index"])
        & np.isclose(before["end_s"], rows["start_s"], rtol=0, atol=1e-9)
    )
    rows = rows.assign(place=(~goes_on).groupby(rows["device_id"]).cumsum(), length_s=rows["end_s"] - rows["start_s"])
    return rows.groupby(["device_id", "place"], as_index=False).agg(
        kind=("kind", "first"), length_s=("length_s", "sum")
    )


def lags(live: RunFrames) -> pd.Series:
    """By device, the seconds of the wall by which it was behind, as a share of those that it was busy."""
    rows = live.host.loc[live.host["host"].str.startswith("device-")]
    spent = rows.loc[rows["phase"].isin(["download", "compute", "upload"])].groupby("host")["wall_s"].sum()
    return (rows.loc[rows["phase"] == "lag"].groupby("host")["wall_s"].sum() / spent).sort_values(ascending=False)


def show(twins: Twins) -> None:
    """Print one policy."""
    errors = twins.activities["error"].abs()
    rounds = ", ".join(f"{error:+.2%}" for error in twins.round_errors)
    within = (errors <= MOST_OF_ACTIVITY).mean()
    print(f"{twins.policy}: run {twins.run_error:+.2%}; rounds {rounds} (at most {MOST_OF_ROUND:.0%} wanted)")
    print(
        f"  {len(errors)} activities: median {errors.median():.2%}, 95th percentile {errors.quantile(0.95):.2%}, most "
        f"{errors.max():.2%}; {within:.1%} of them within {MOST_OF_ACTIVITY:.0%}"
    )
    for kind, rows in twins.activities.groupby("kind"):
        excess_s = rows["live_s"].sum() / rows["virtual_s"].sum() - 1
        print(
            f"  {kind}: mean {rows['virtual_s'].mean():.2f} s, in all {excess_s:+.2%}, most {rows['error'].max():+.2%}"
        )
    print(f"  same activities in the same order: {twins.is_same_sequence}; same losses: {twins.has_same_loss}")
    print("  lag: " + ", ".join(f"{host} {share:.2%}" for host, share in twins.lag.head(3).items()))
    if twins.warning:
        print(f"  {twins.warning}")


if __name__ == "__main__":
    main()
