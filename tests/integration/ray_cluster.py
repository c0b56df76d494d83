"""A Ray cluster for tests, started as users start one, and ended without touching any other."""

import ctypes
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

START_S = 120.0
N_CPUS = 2
STORE_BYTES = 256 * 2**20
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, kw_only=True, slots=True)
class RayCluster:
    """A head node that runs."""

    process: psutil.Process
    address: str
    environment: dict[str, str]
    """Names the cluster, and the token without which it lets nobody in."""


@contextmanager
def started_cluster() -> Iterator[RayCluster]:
    """``ray start --head`` on ports that are free, in a folder of its own, until the block ends."""
    # Sockets lie in it, whose paths may have 107 bytes; pytest's own folders are too long.
    with tempfile.TemporaryDirectory(prefix="jetbed-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        # A token in the home directory is neither used nor made.
        lets_in = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [Path(sys.executable).with_name("ray"), "start", *_options(folder)],
                env=os.environ | lets_in,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_its_parent,
            )
        try:
            address = _address(folder, process)
            yield RayCluster(
                process=psutil.Process(process.pid),
                address=address,
                environment=lets_in | {"RAY_ADDRESS": address},
            )
        finally:
            _end(process)


def _end_with_its_parent() -> None:
    """Also where the tests are killed, which tidy nothing up then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _options(folder: Path) -> list[str]:
    options = ["--head", "--block", "--port=0", "--include-dashboard=false", "--disable-usage-stats"]
    return [*options, f"--temp-dir={folder}", f"--num-cpus={N_CPUS}", f"--object-store-memory={STORE_BYTES}"]


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the head listens, as soon as it says that it runs."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        address = folder / "ray_current_cluster"
        if address.is_file() and "Ray runtime started" in (folder / "log").read_text():
            return address.read_text().strip()
        time.sleep(0.1)
    raise RuntimeError(f"no Ray cluster could be started:\n{(folder / 'log').read_text()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the head and everything that it has started."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    for child in alive:
        child.kill()
