"""What running the runs of a sweep side by side is worth: against one after another on all cores, in turns.

``python -m benchmarks.sweeps [SWEEP.toml] [--repeats N] [--apart]``

Both are the same command with another ``--max-parallel``, so that both share hosts and what is loaded; ``--apart`` adds
a ``jetbed run`` for each run, which shares nothing. The wall time is that of the whole command, start and end included;
*running* leaves out the start of Ray: from the first run's start to the last one's end, by the lines that are printed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from emulator.cli.print_config import as_toml
from emulator.sweeps.expansion import expand
from emulator.sweeps.spec import read_spec

EXAMPLE = Path(__file__).parent / "sweeps" / "example.toml"
JETBED = [sys.executable, "-m", "emulator.cli"]
TABLES = ("rounds", "devices", "activities")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", nargs="?", type=Path, default=EXAMPLE)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--apart", action="store_true", help="also as single runs")
    options = parser.parse_args()
    ratios, running = [], []
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            alone_s, alone_running_s = timed_sweep(options.sweep, folder / "alone", max_parallel=1)
            together_s, together_running_s = timed_sweep(options.sweep, folder / "together", max_parallel=0)
            same = tables(folder / "alone") == tables(folder / "together")
            print(
                f"{repeat + 1}: one after another {alone_s:.1f} s ({alone_running_s:.1f} s running), side by side "
                f"{together_s:.1f} s ({together_running_s:.1f} s running), ratio {together_s / alone_s:.2f} "
                f"({together_running_s / alone_running_s:.2f}); same tables: {same}"
            )
            if options.apart:
                apart_s = timed_runs(options.sweep, folder / "apart")
                print(f"   as single runs {apart_s:.1f} s, side by side over that {together_s / apart_s:.2f}")
            ratios.append(together_s / alone_s)
            running.append(together_running_s / alone_running_s)
    print(f"median ratio {statistics.median(ratios):.2f}, running {statistics.median(running):.2f}")


def timed_sweep(sweep: Path, out: Path, max_parallel: int) -> tuple[float, float]:
    """Seconds of a sweep: of the whole command, and from the first run's start to the last one's end."""
    start_s = time.monotonic()
    command = [*JETBED, "sweep", str(sweep), "--out", str(out), "--max-parallel", str(max_parallel)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    at_s = [time.monotonic() for line in process.stderr if line.startswith("run ")]
    if process.wait():
        raise SystemExit(f"the sweep failed with status {process.returncode}")
    return time.monotonic() - start_s, at_s[-1] - at_s[0]


def timed_runs(sweep: Path, folder: Path) -> float:
    """Seconds of the same runs as commands of their own."""
    folder.mkdir()
    start_s = time.monotonic()
    for run in expand(read_spec(sweep)).runs:
        config = folder / f"{run.name}.toml"
        config.write_text(as_toml(run.config), encoding="utf-8")
        command = [*JETBED, "run", str(config), "--out", str(folder / run.name)]
        subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - start_s


def tables(folder: Path) -> dict[str, bytes]:
    """The bytes of all parts that may not differ."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for table in TABLES
        for path in folder.glob(f"run=*/{table}/*.parquet")
    }


if __name__ == "__main__":
    main()
