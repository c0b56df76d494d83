"""Add a board and a cluster, and see what the board would do: its price, then a run beside other boards.

    python examples/04_own_board.py [FOLDER]

The board is ``my_board.toml``, the cluster ``my_cluster.toml`` beside this file; ``device_profiles/README.md`` explains
both. On the command line: ``jetbed price examples/my_board.toml`` and
``jetbed run --set testbed.cluster=examples/my_cluster.toml``.
"""

import sys
from pathlib import Path

import emulator
from device_profiles.catalog import load_cluster, load_profile

HERE = Path(__file__).parent


def main(folder: Path) -> None:
    board = load_profile(HERE / "my_board.toml")
    for mode in board.power_modes:
        print(
            f"{board.name} in {mode.name}: {mode.effective_flop_per_s['fp32'] / 1e12:g} TFLOP/s, {mode.compute_w:g} W"
        )
    print(f"{load_cluster(HERE / 'my_cluster.toml').n_devices} devices")

    settings = {"testbed.cluster": str(HERE / "my_cluster.toml"), "training.enabled": False, "rounds": 10}
    run = emulator.emulate(settings, out=folder)
    by_board = run.devices.groupby(["profile", "power_mode"])
    print(by_board[["compute_s", "waiting_s", "energy_j", "depth"]].mean().round(1))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/own_board"))
