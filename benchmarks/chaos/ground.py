"""Where works are carried out: machines on this one, of which the first is the user's, whose processes can be hit."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.chaos.works import study
from tests.machines import HOME, Machine, raised, started_machines

ROOM = "/tmp/room"
"""The disk that can be filled, on the user's machine."""
ROOM_BYTES = 48 * 2**20
NAMES = {"host": "ray::HostActor", "coordinator": "ray::Coord", "raylet": "raylet"}
"""With what the names of processes begin."""
CLUSTER = ("gcs_server", "raylet", "ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "python", "ray")
"""What belongs to a cluster that was there before a command, and stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """Machines with a disk that can be filled.

    Attributes:
        machines: the user's comes first.
        address: of the Ray cluster over them; without one, each command starts its own.
    """

    machines: list[Machine]
    address: str | None

    @property
    def user(self) -> Machine:
        return self.machines[0]

    @property
    def environment(self) -> dict[str, str]:
        # Ray's workers are nice to others, which on a busy machine means that runs hardly come on.
        return {"RAY_ADDRESS": self.address} if self.address else {"RAY_worker_niceness": "0"}

    def targets(self, what: str, command: psutil.Process) -> list[psutil.Process]:
        """Those that a blow of this kind may hit; ``command`` is what was started on the user's machine."""
        if what == "driver":
            return [process for process in _below(command) if "emulator.cli" in _line(process)][:1]
        # With a raylet its machine is lost, which on the user's own is a death of its cluster.
        where = self.machines[1:] if self.address and what == "raylet" else self.machines
        found = [process for machine in where for process in _below(machine.first)]
        found += [] if self.address else _below(command)
        return [process for process in dict.fromkeys(found) if _name(process).startswith(NAMES[what])]

    def living(self, command: psutil.Process) -> set[psutil.Process]:
        """What a command has started, itself included, as far as it lives."""
        own = set(_below(command))
        others = {process for machine in self.machines for process in _below(machine.first)}
        if self.address:
            others = {process for process in others if not _name(process).startswith(CLUSTER)}
        return own | others

    def fill(self) -> None:
        """Leave no room on the disk."""
        self.user.call("sh", "-c", f"cat /dev/zero > {ROOM}/ballast")

    def free(self) -> None:
        self.user.call("rm", "-f", f"{ROOM}/ballast")

    def has(self, path: str) -> bool:
        return self.user.call("test", "-e", path).returncode == 0

    def fetch(self, path: str) -> Path:
        """A copy of a folder of the user's machine, to be read from here."""
        copy = HOME / "fetched"
        shutil.rmtree(self.user.outside(copy), ignore_errors=True)
        self.user.call("cp", "-r", path, str(copy))
        return self.user.outside(copy)


@contextmanager
def started_ground(n_machines: int) -> Iterator[Ground]:
    """One machine, or a Ray cluster over several."""
    with started_machines(n_machines) as machines:
        ground = Ground(machines=machines, address=raised(machines).address if n_machines > 1 else None)
        size = f"size={ROOM_BYTES}"
        made = ground.user.call("sh", "-c", f"mkdir {ROOM} && mount -t tmpfs -o {size} tmpfs {ROOM}")
        if made.returncode:
            raise RuntimeError(f"no disk could be made: {made.stderr}")
        (ground.user.outside(HOME) / "study.toml").write_text(study())
        yield ground


@contextmanager
def twins() -> Iterator[Path]:
    """A folder for undisturbed runs."""
    with TemporaryDirectory(prefix="jetbed-chaos-") as name:
        (Path(name) / "study.toml").write_text(study())
        yield Path(name)


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended; its parent may not have noticed yet."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _below(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [child for child in process.children(recursive=True) if lives(child)]
    return []


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return str(process.name())
    return ""


def _line(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
