"""Whether runs on a Ray cluster of two machines leave their results where the user asked for them.

``python -m benchmarks.two_nodes --runs 20`` starts two machines with file systems of their own
(``tests/machines.py``), raises a cluster over them, and makes runs from one and the other in turn, with a host on each.
A run is as wanted if its folder lies on the machine from which it was started and on no other, it is finished with its
exported adapter, and its tables have the bytes of the same run in one process. A line a run; exit status 1 where one is
not as wanted.
"""

import argparse
import hashlib
import itertools
import json
import sys
import time
from functools import cache
from pathlib import Path

from tests.command_line import settings
from tests.machines import HOME, Machine, MachineCluster, started_cluster, why_no_machines

POLICIES = ("legend", "fedlora", "hetlora", "splitfed")
SIZE = (
    "rounds=2",
    "testbed.n_devices=4",
    "data.n_train=200",
    "data.n_test=50",
    "training.local_steps=1",
    "training.devices_stacked=2",
)
"""The size matters to nobody: a run must have stacks for a host on each machine, and end soon."""
TABLES = ("rounds", "devices", "activities")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20, help="how many")
    n_runs = parser.parse_args().runs
    if reason := why_no_machines():
        sys.exit(f"no machines can be made here: {reason}")
    with started_cluster() as cluster:
        right = [_is_right(cluster, number) for number in range(n_runs)]
    print(f"{sum(right)} of {n_runs} runs left their results where they were asked for")
    sys.exit(not all(right))


def _is_right(cluster: MachineCluster, number: int) -> bool:
    """Make the run of this number and print its line."""
    asked, other = cluster.machines[number % 2], cluster.machines[1 - number % 2]
    policy = POLICIES[number // 2 % len(POLICIES)]
    # A path that is relative to where the command is given, and one that exists on no machine yet.
    given = f"runs/{number}" if number % 4 < 2 else f"/tmp/results/{number}"
    start_s = time.monotonic()
    finished = asked.jetbed(*_command(policy, given), "--backend", "ray", "--hosts", "2", RAY_ADDRESS=cluster.address)
    took_s = time.monotonic() - start_s
    faults = [*_faults(asked.outside(HOME / given), other.outside(HOME / given))] if not finished.returncode else []
    if finished.returncode:
        faults.append(f"exit status {finished.returncode}: {finished.stderr.splitlines()[-1:]}")
    elif _digests(asked.outside(HOME / given)) != _twin(cluster.head, policy):
        faults.append("other bytes than in one process")
    said = "; ".join(faults) or "as asked"
    begin = f"run {number + 1:2}  from machine {number % 2 + 1}  {policy:8} {given:15}"
    print(f"{begin} {took_s:5.0f} s  {said}", flush=True)
    return not faults


def _command(policy: str, out: str) -> list[str]:
    return ["run", "--policy", policy, "--out", out, *settings(SIZE)]


def _faults(here: Path, elsewhere: Path) -> list[str]:
    if not (here / "run.json").is_file():
        return ["no results where they were asked for"]
    found = []
    if json.loads((here / "run.json").read_text())["status"] != "finished":
        found.append("not finished")
    if not [*itertools.chain((here / "adapter").glob("**/*.safetensors"), (here / "adapter").glob("**/*.npz"))]:
        found.append("no exported adapter")
    if elsewhere.exists():
        found.append("something of it lies on the other machine")
    return found


@cache
def _twin(machine: Machine, policy: str) -> dict[str, str]:
    """The bytes of the run in one process."""
    finished = machine.jetbed(*_command(policy, f"twin-{policy}"), "--backend", "inline")
    assert finished.returncode == 0, finished.stderr
    return _digests(machine.outside(HOME / f"twin-{policy}"))


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for table in TABLES for path in (folder / table).glob("*.parquet"))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main()
