"""How closely a paced run follows the wall: one of 30 s without training, and one with.

``python -m benchmarks.pace [--seconds N]``

Each is run at virtual pace first, to learn its emulated length, and then at the factor that makes it ``--seconds``
long. What counts is the wall time from the end of the first round to the end of the last, each with its training,
beside the emulated time between them over the factor.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from emulator import load
from emulator.config import load_config
from emulator.launch.execute import execute
from emulator.observers.base import RoundClosed, RunObserver

RUNS: dict[str, list[tuple[str, Any]]] = {
    "timing only, 80 devices, 20 rounds": [("training.enabled", False), ("rounds", 20)],
    "trained inline, 8 devices, 20 rounds": [
        ("rounds", 20),
        ("backend.kind", "inline"),
        ("testbed.n_devices", 8),
        ("data.n_train", 400),
        ("data.n_test", 100),
        ("training.local_steps", 2),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long a paced run shall take")
    options = parser.parse_args()
    for name, settings in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            expected_s, wall_s, is_same, warning = measure(settings, options.seconds, Path(folder))
        error = wall_s / expected_s - 1
        print(f"{name}: wall {wall_s:.3f} s, emulated / x {expected_s:.3f} s, {error:+.2%}; same tables: {is_same}")
        if warning:
            print(f"  {warning}")


class _Ends(RunObserver):
    """When each round ended: seconds on the wall, and emulated ones."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def round_closed(self, closed: RoundClosed) -> None:
        self.seen.append((time.monotonic(), closed.report.end_s))


def measure(settings: list[tuple[str, Any]], seconds: float, folder: Path) -> tuple[float, float, bool, str | None]:
    """Expected and measured seconds between the first and the last round, whether tables agree, and any warning."""
    virtual = execute(load_config(None, settings), folder / "virtual")
    length_s = float(load(virtual).rounds["end_s"].iloc[-1])
    factor = length_s / seconds
    ends = _Ends()
    paced = execute(load_config(None, [*settings, ("pace", f"realtime({factor!r})")]), folder / "paced", [ends])
    (first_wall_s, first_s), (last_wall_s, last_s) = ends.seen[0], ends.seen[-1]
    is_same = all(
        path.read_bytes() == (paced / path.relative_to(virtual)).read_bytes()
        for table in ("rounds", "devices", "activities")
        for path in (virtual / table).glob("*.parquet")
    )
    expected_s = (last_s - first_s) / factor
    return expected_s, last_wall_s - first_wall_s, is_same, load(paced).info.get("warning")


if __name__ == "__main__":
    main()
