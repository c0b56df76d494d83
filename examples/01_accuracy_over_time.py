"""Run two policies on the same small testbed, from Python, and plot their accuracy over emulated time.

    python examples/01_accuracy_over_time.py [FOLDER]

Training takes about half a minute on two cores. Same seed, so same data, links and power modes for both.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

import emulator
from emulator.analysis import cost_to_target, spent

SETTINGS = {"rounds": 6, "testbed.n_devices": 16, "data.n_train": 1600, "data.n_test": 300, "training.local_steps": 8}
SETTINGS |= {"backend.kind": "inline"}
TARGET = 0.3


def main(folder: Path) -> None:
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    for policy in ("fedlora", "legend"):
        run = emulator.emulate({**SETTINGS, "policy.path": policy}, out=folder / policy)
        curve = spent(run.rounds)
        axes.plot(curve["time_s"], curve["accuracy"], marker="o", label=policy)
        cost = cost_to_target(run.rounds, TARGET)
        print(policy, f"never reaches {TARGET}" if cost is None else f"reaches {TARGET} in {cost['time_s']:.1f} s")
    axes.set(xlabel="emulated time (s)", ylabel="accuracy", title="16 devices, seed 0")
    axes.legend()
    figure.savefig(folder / "accuracy.png", dpi=120)
    print(folder / "accuracy.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/examples/accuracy"))
