"""What is disturbed: small runs of some policies, and a sweep; how each is started, taken up again, and compared."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from tests.command_line import settings

N_ROUNDS = 6
SIZE = (
    f"rounds={N_ROUNDS}",
    "testbed.n_devices=4",
    "data.n_train=200",
    "data.n_test=50",
    "training.local_steps=6",
    "training.devices_stacked=2",
    "results.checkpoint_rounds=1",
    "results.rounds_per_part=2",
)
"""Two stacks for two hosts, and rounds that last long enough on the wall to be hit in their middle."""
SWEEP_ROUNDS = 2
SWEEP_POLICIES = ("legend", "fedlora", "fedbuff")
SWEEP_SEEDS = (1, 2)
TABLES = ("rounds", "devices", "activities")
"""Those that hold nothing measured on the wall."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A run, or a sweep of several.

    Attributes:
        name: a policy's, or ``sweep``.
        n_runs: of how many runs it consists.
    """

    name: str
    n_runs: int = 1

    @property
    def is_sweep(self) -> bool:
        return self.n_runs > 1

    @property
    def n_steps(self) -> int:
        """So many steps on the way to its end are told: rounds of a run, runs of a sweep."""
        return self.n_runs if self.is_sweep else N_ROUNDS

    def command(self, out: str, *where: str) -> list[str]:
        """What starts it; ``where`` names a backend."""
        if self.is_sweep:
            return ["sweep", "study.toml", "--out", out, *where]
        return ["run", "--policy", self.name, "--out", out, *settings(SIZE), *where]

    def command_again(self, out: str, *where: str, has_begun: bool) -> list[str]:
        """What a user gives after it has died; ``has_begun`` where there is something in the folder to go on with."""
        return self.command(out, *where) if self.is_sweep or not has_begun else ["resume", out]

    def steps_told(self, line: str) -> int | None:
        """How many steps are done according to a line of standard error, None if it says nothing of them."""
        if self.is_sweep and "runs:" in line:
            found = re.search(r"(\d+) finished", line)
            return int(found[1]) if found else 0
        if not self.is_sweep and line.startswith("round "):
            return int(line.split()[1].partition("/")[0])
        return None

    def run_folders(self, folder: Path) -> list[Path]:
        return sorted(folder.glob("run=*")) if self.is_sweep else [folder]

    def faults(self, folder: Path, twin: Path) -> list[str]:
        """What is not as in the undisturbed twin, or not finished."""
        folders = self.run_folders(folder)
        found = [f"{len(folders)} of {self.n_runs} runs are there"] if len(folders) != self.n_runs else []
        for run in folders:
            info = run / "run.json"
            status = json.loads(info.read_text())["status"] if info.is_file() else "not begun"
            if status != "finished":
                found.append(f"{run.name} is {status}")
        mine, whole = _digests(folder), _digests(twin)
        differ = sorted(name for name in mine.keys() | whole.keys() if mine.get(name) != whole.get(name))
        return [*found, *([f"other bytes than the twin's: {', '.join(differ)}"] if differ else [])]


WORKS = (
    *(Work(name=policy) for policy in ("legend", "fedlora", "hetlora", "splitfed", "fedbuff")),
    Work(name="sweep", n_runs=len(SWEEP_POLICIES) * len(SWEEP_SEEDS)),
)


def study() -> str:
    """The sweep's file."""
    base = [override.replace(f"rounds={N_ROUNDS}", f"rounds={SWEEP_ROUNDS}") for override in SIZE]
    axes = [f"policy = {json.dumps(SWEEP_POLICIES)}", f"seed = {json.dumps(SWEEP_SEEDS)}"]
    return "\n".join(["[base]", *base, "[axes]", *axes, ""])


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every Parquet part and every file of the exported adapters, by path in the folder."""
    parts = (path for table in TABLES for path in folder.glob(f"**/{table}/*.parquet"))
    exported = (path for path in folder.glob("**/adapter/**/*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): path for path in (*parts, *exported)}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
