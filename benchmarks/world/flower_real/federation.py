"""A federation of Flower's own processes, from its start to what it has shown: rounds, times of devices, bytes."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.workload import Workload

TIMEOUT_S = 900.0
POLL_S = 3.0
"""How often an idle SuperNode asks for messages, and a waiting ServerApp for replies: Flower 1.42,
``supernode/start_client_internal.py`` and ``superlink/grid/http_grid.py``."""
_UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
_RECEIVED, _SENDING, _SENT = "Received successfully", "Sending: train message", "Sent successfully"


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """Rates of a device's link, in Mb/s."""

    down_mbit_per_s: float
    up_mbit_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One device in one round, in seconds of the clock of the wall."""

    node: int
    received_s: float
    start_s: float
    end_s: float
    sending_s: float
    sent_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One round as the server saw it, and what its devices did in it."""

    start_s: float
    end_s: float
    turns: tuple[Turn, ...]

    @property
    def length_s(self) -> float:
        """How long the server waited."""
        return self.end_s - self.start_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Federation:
    """What a federation has shown. ``down_bytes`` and ``up_bytes`` are all frames on the devices' links, by device."""

    rounds: tuple[Round, ...]
    down_bytes: tuple[int, ...]
    up_bytes: tuple[int, ...]

    def server_poll_s(self) -> float:
        """How often the server looks for answers: a sleep of :data:`POLL_S`, and what asking takes."""
        return mean(each.length_s / round(each.length_s / POLL_S) for each in self.rounds[1:])

    def launch_s(self) -> float:
        """From when a device has its message until it trains: mean over devices and rounds after the first."""
        return mean(turn.start_s - turn.received_s for each in self.rounds[1:] for turn in each.turns)

    def reply_s(self) -> float:
        """From when a device has trained until its answer begins to travel, as :meth:`launch_s`."""
        return mean(turn.sending_s - turn.end_s for each in self.rounds[1:] for turn in each.turns)


def carry_out(
    python: Path, workload: Workload, slowness: Sequence[float], link: Link | None, n_rounds: int, n_steps: int
) -> Federation:
    """Let Flower do ``n_rounds`` in which each device takes ``n_steps``; without ``link``, nothing is held back."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        specification = {
            "python": str(python),
            "workload": asdict(workload),
            "slowness": list(slowness),
            "links": [asdict(link) if link else {} for _ in slowness],
            "rounds": n_rounds,
            "steps": n_steps,
            "timeout_s": TIMEOUT_S,
        }
        (folder / "spec.json").write_text(json.dumps(specification))
        inside = [sys.executable, "-m", "benchmarks.world.flower_real.inside", str(folder / "spec.json")]
        done = subprocess.run([*_UNSHARE, *inside], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the federation failed:\n{done.stderr}{_tail(folder / 'lines.jsonl')}")
        counted = json.loads((folder / "bytes.json").read_text())
        notes = [json.loads(line) for line in (folder / "notes.jsonl").read_text().splitlines()]
        lines = [json.loads(line) for line in (folder / "lines.jsonl").read_text().splitlines()]
    down, up = (
        tuple(after[way] - before[way] for before, after in zip(counted["before"], counted["after"], strict=True))
        for way in ("down", "up")
    )
    return Federation(rounds=rounds_of(notes, lines), down_bytes=down, up_bytes=up)


def rounds_of(notes: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]]) -> tuple[Round, ...]:
    """The rounds that the application has noted, with what devices said while they had them."""
    return tuple(
        Round(
            start_s=note["start_s"],
            end_s=note["end_s"],
            turns=tuple(_turn(device, lines) for device in note["devices"]),
        )
        for note in notes
    )


def _turn(device: dict[str, Any], lines: Sequence[dict[str, Any]]) -> Turn:
    node = int(device["node"])
    said = [line for line in lines if line["who"] == f"device-{node}"]
    before = [line["time_s"] for line in said if _RECEIVED in line["line"] and line["time_s"] <= device["start_s"]]
    sending = [line["time_s"] for line in said if _SENDING in line["line"] and line["time_s"] >= device["end_s"]]
    sent = [line["time_s"] for line in said if _SENT in line["line"] and line["time_s"] >= device["end_s"]]
    return Turn(
        node=node,
        received_s=before[-1],
        start_s=device["start_s"],
        end_s=device["end_s"],
        sending_s=sending[0],
        sent_s=sent[0],
    )


def _tail(path: Path) -> str:
    said = path.read_text().splitlines()[-40:] if path.exists() else []
    return "\n".join(f"{line['who']}: {line['line']}" for line in map(json.loads, said))
