"""Machines on this one: each has a file system for its own files and sees its own processes; the network is shared.

A machine is a mount and a process namespace. Its ``/tmp`` is a folder of its own, which holds the home of its user, the
working directory and all results; what lies elsewhere (Python, this repository) is the same on all of them.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

N_CPUS = 1
"""Of each machine, so that two hosts lie on two of them."""
STORE_BYTES = 100_000_000
START_S = 120.0
HOME = Path("/tmp/home")
"""The user's home, on every machine."""
_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
_ENTER = ("nsenter", "--mount", "--pid")
_AT_HOME = ("sh", "-c", f'cd {HOME} && exec "$@"', "sh")
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """One of the machines.

    Attributes:
        first: the process that keeps it; what it has started are its children, and everything ends with it.
        tmp: from outside, the folder that is its ``/tmp``.
    """

    first: psutil.Process
    tmp: Path

    def command(self, *arguments: str) -> list[str]:
        """What must be called from outside to call ``arguments`` on the machine, in the user's home."""
        enter = [*_ENTER, *_as_user("--user", "--preserve-credentials"), f"--target={self.first.pid}"]
        return [*enter, *_AT_HOME, *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        """What processes of its user see, with no trace of Ray but ``more``."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        found = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        return own | {"HOME": str(HOME), "TMPDIR": "/tmp", "COLUMNS": "100", "PYTHONPATH": found} | more

    def call(self, *arguments: str, timeout_s: float = 300.0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program on the machine to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def jetbed(self, *arguments: str, timeout_s: float = 300.0, **environment: str) -> subprocess.CompletedProcess[str]:
        """The command line on the machine."""
        python = (sys.executable, "-m", "emulator.cli")
        return self.call(*python, *arguments, timeout_s=timeout_s, **environment)

    @contextmanager
    def started(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """The command line on the machine, with a standard error to read; it does not outlast the block."""
        process = subprocess.Popen(
            self.command(sys.executable, "-m", "emulator.cli", *arguments),
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()

    def outside(self, path: str | Path) -> Path:
        """Where a path below the machine's ``/tmp`` lies, seen from outside."""
        return self.tmp / Path(path).relative_to("/tmp")

    def processes(self, name: str) -> list[psutil.Process]:
        """Those whose name begins with ``name``."""
        return [each for each in self.first.children(recursive=True) if _name_of(each).startswith(name)]

    def end(self) -> None:
        """Pull the plug: all its processes are killed."""
        self.first.kill()
        psutil.wait_procs([self.first], timeout=30)


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineCluster:
    """A Ray cluster over machines; the first one has its head."""

    machines: Sequence[Machine]
    address: str

    @property
    def head(self) -> Machine:
        return self.machines[0]


def why_no_machines() -> str:
    """Why there can be none here; nothing where there can."""
    if sys.platform != "linux":
        return "namespaces are Linux's"
    if any(path.is_relative_to("/tmp") for path in (_ROOT, Path(sys.prefix).resolve())):
        return "a machine has a /tmp of its own, and this repository or its Python lies in /tmp"
    try:
        tried = subprocess.run([*_UNSHARE, *_as_user("--map-root-user"), "true"], capture_output=True, check=False)
    except OSError as error:
        return f"unshare cannot be called ({error.strerror})"
    return f"namespaces are forbidden here ({tried.stderr.decode().strip()})" if tried.returncode else ""


@contextmanager
def started_machines(number: int) -> Iterator[list[Machine]]:
    """So many machines, on which nothing runs yet; they end with the block, and with this process, whatever ends it."""
    with (
        tempfile.TemporaryDirectory(prefix="jetbed-machines-", ignore_cleanup_errors=True) as name,
        ExitStack() as stack,
    ):
        yield [stack.enter_context(_started_machine(Path(name) / f"machine-{index + 1}")) for index in range(number)]


@contextmanager
def _started_machine(tmp: Path) -> Iterator[Machine]:
    (tmp / HOME.relative_to("/tmp")).mkdir(parents=True)
    # The shell takes in processes whose parents have ended, and ends itself when the pipe to it is closed.
    keep = 'mount --bind "$0" /tmp && echo ready && read -r'
    process = subprocess.Popen(
        [*_UNSHARE, *_as_user("--map-root-user"), "bash", "-c", keep, str(tmp)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("a machine could not be started")
        yield Machine(first=psutil.Process(process.pid).children()[0], tmp=tmp)
    finally:
        process.kill()
        process.wait()


@contextmanager
def started_cluster(
    number: int = 2, *, has_token: bool = True, with_dashboard: bool = False
) -> Iterator[MachineCluster]:
    """``ray start`` on so many machines; with ``has_token`` after ``ray get-auth-token --generate``, as Ray advises."""
    with started_machines(number) as machines:
        yield raised(machines, has_token=has_token, with_dashboard=with_dashboard)


def raised(machines: Sequence[Machine], *, has_token: bool = True, with_dashboard: bool = False) -> MachineCluster:
    """A cluster on machines that have none: ``ray start --head`` on the first, with ``--address`` on the others."""
    head, *others = machines
    if has_token:
        _ray(head, "get-auth-token", "--generate")
    more = [] if with_dashboard else ["--include-dashboard=false"]
    _ray(head, "start", "--head", "--port=0", *more, *_OPTIONS)
    address = head.outside("/tmp/ray/ray_current_cluster").read_text().strip()
    cluster = MachineCluster(machines=machines, address=address)
    for machine in others:
        join(cluster, machine, has_token=has_token)
    return cluster


def join(cluster: MachineCluster, machine: Machine, *, has_token: bool = True) -> None:
    """``ray start --address`` on a machine that has no raylet, or none that lives."""
    # Where an address is given, Ray uses a token only if it is told to.
    environment = {"RAY_AUTH_MODE": "token"} if has_token else {}
    if has_token:
        copy_token(cluster.head, machine)
    _ray(machine, "start", f"--address={cluster.address}", *_OPTIONS, **environment)


_OPTIONS = ("--disable-usage-stats", f"--num-cpus={N_CPUS}", f"--object-store-memory={STORE_BYTES}")


def token_file(machine: Machine) -> Path:
    """The token that Ray finds by itself, seen from outside."""
    return machine.outside(HOME) / ".ray" / "auth_token"


def copy_token(source: Machine, target: Machine) -> None:
    """As a user copies the token from the head to another machine."""
    token_file(target).parent.mkdir(exist_ok=True)
    token_file(target).write_text(token_file(source).read_text())


def wait_until(is_so: object, what: str, timeout_s: float = START_S) -> None:
    """Until the function ``is_so`` returns something true.

    Raises:
        TimeoutError: it has not within ``timeout_s``.
    """
    assert callable(is_so)
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{what} has not come within {timeout_s:.0f} s")
        time.sleep(0.05)


def _ray(machine: Machine, *arguments: str, **environment: str) -> None:
    # To files: what Ray leaves running would keep pipes open.
    log = machine.tmp / "ray-start.log"
    with log.open("w") as said:
        done = subprocess.run(
            machine.command(str(Path(sys.executable).with_name("ray")), *arguments),
            env=machine.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=START_S,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"ray {arguments[0]} failed on a machine:\n{log.read_text()}")


def _as_user(*options: str) -> Sequence[str]:
    """What one who is not root must say beside."""
    return () if os.geteuid() == 0 else options


def _name_of(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""
