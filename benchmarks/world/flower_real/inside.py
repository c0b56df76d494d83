"""Runs a federation in the namespaces that this process was started in: a bridge, a link for each device, processes.

``python -m benchmarks.world.flower_real.inside SPEC.json``, with network, mount and process namespaces of its own; it
writes ``lines.jsonl`` (who said what, and when), ``notes.jsonl`` (the application's) and ``bytes.json`` into the folder
of the specification. This process needs no Flower; the others are programs beside ``python``.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

SERVER = "10.77.0.1"
PORT = 9092
READY = "Application startup complete"
START_S = 60.0
APP = Path(__file__).parent / "app"
ROOT = Path(__file__).parents[3]


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[1]).parent
    lines = _Lines(folder / "lines.jsonl")
    make_network(spec["links"])
    environment = _environment(spec, folder)
    server = ["--insecure", "--host", SERVER, "--port", str(PORT)]
    _start("superlink", ["flower-superlink", *server], environment, lines)
    lines.wait_for("superlink", READY)
    for node, slowness in enumerate(spec["slowness"]):
        config = f"partition-id={node} slowness={slowness:.6f}"
        its_own = ["--superlink", f"{SERVER}:{PORT}", "--host", "127.0.0.1", "--port", str(9100 + node)]
        command = ["flower-supernode", "--insecure", *its_own, "--node-config", config]
        _start(f"device-{node}", command, environment, lines, namespace=f"device{node}")
    for node in range(len(spec["slowness"])):
        lines.wait_for(f"device-{node}", "SuperNode ID")
    before = [_bytes_of(node) for node in range(len(spec["slowness"]))]
    run = ["flwr", "run", str(APP), "here", "--stream", "--run-config", f"rounds={spec['rounds']}"]
    status = _start("run", run, environment, lines).wait(timeout=spec["timeout_s"])
    after = [_bytes_of(node) for node in range(len(spec["slowness"]))]
    (folder / "bytes.json").write_text(json.dumps({"before": before, "after": after}))
    raise SystemExit(status)


def make_network(links: list[dict[str, float]]) -> None:
    """A bridge at the server, and for each device a namespace on a link whose two directions ``tc`` holds to rates."""
    _call("ip", "link", "set", "lo", "up")
    _call("ip", "link", "add", "server", "type", "bridge")
    _call("ip", "addr", "add", f"{SERVER}/24", "dev", "server")
    _call("ip", "link", "set", "server", "up")
    _call("mount", "-t", "tmpfs", "none", "/run")
    Path("/run/netns").mkdir()
    for node, link in enumerate(links):
        inside = ["ip", "-n", f"device{node}"]
        _call("ip", "netns", "add", f"device{node}")
        _call("ip", "link", "add", f"link{node}", "type", "veth", "peer", "name", "eth0", "netns", f"device{node}")
        _call("ip", "link", "set", f"link{node}", "master", "server", "up")
        _call(*inside, "addr", "add", f"10.77.0.{node + 10}/24", "dev", "eth0")
        _call(*inside, "link", "set", "eth0", "up")
        _call(*inside, "link", "set", "lo", "up")
        if link:
            held = ["root", "tbf", "burst", "16kb", "latency", "400ms", "rate"]
            _call("tc", "qdisc", "add", "dev", f"link{node}", *held, f"{link['down_mbit_per_s']}mbit")
            _call("tc", "-n", f"device{node}", "qdisc", "add", "dev", "eth0", *held, f"{link['up_mbit_per_s']}mbit")


def _bytes_of(node: int) -> dict[str, int]:
    """What has gone over a device's link, frames with their headers."""
    counters = Path(f"/sys/class/net/link{node}/statistics")
    if not counters.exists():  # /sys is that of the namespace in which it was mounted
        _call("mount", "-t", "sysfs", "none", "/sys")
    names = {"down": "tx_bytes", "up": "rx_bytes"}
    return {direction: int((counters / name).read_text()) for direction, name in names.items()}


def _environment(spec: dict[str, Any], folder: Path) -> dict[str, str]:
    home = folder / "home"
    (home / ".flwr").mkdir(parents=True)
    (home / ".flwr/config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "{SERVER}:{PORT}"\ninsecure = true\n'
    )
    return {
        **os.environ,
        "HOME": str(home),
        # Flower finds its own programs by their names.
        "PATH": f"{Path(spec['python']).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "FLWR_TELEMETRY_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "JETBED_WORKLOAD": json.dumps(spec["workload"]),
        "JETBED_STEPS": str(spec["steps"]),
        "JETBED_NOTES": str(folder / "notes.jsonl"),
        "PYTHONUNBUFFERED": "1",
    }


def _start(
    who: str,
    command: list[str],
    environment: dict[str, str],
    lines: "_Lines",
    namespace: str = "",
) -> "subprocess.Popen[str]":
    within = ["ip", "netns", "exec", namespace] if namespace else []
    process = subprocess.Popen(
        [*within, *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    threading.Thread(target=lines.read, args=(who, process), daemon=True).start()
    return process


class _Lines:
    """What all processes say, with the time at which it was read."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        self._said: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def read(self, who: str, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._lock:
                self._said.append((who, line))
                self._file.write(json.dumps({"time_s": time.time(), "who": who, "line": line.rstrip()}) + "\n")
                self._file.flush()

    def wait_for(self, who: str, text: str) -> None:
        deadline_s = time.monotonic() + START_S
        while not any(speaker == who and text in line for speaker, line in list(self._said)):
            if time.monotonic() > deadline_s:
                said = "".join(line for speaker, line in self._said if speaker == who)
                raise SystemExit(f"{who} has not said {text!r} within {START_S:.0f} s:\n{said}")
            time.sleep(0.1)


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()}")


if __name__ == "__main__":
    main()
