"""What a GPU makes of it: rounds of stacks against one device at a time, its matrix-product rate, and what is learnt.

``python -m benchmarks.gpu [--device cpu --small]``

Takes less than 8 minutes on a data-centre GPU, runs the tests that need one (``pytest -m cuda``) as well, and writes
``benchmarks/gpu.md``. Models have random weights. ``--device cpu --small`` takes the same way with tiny sizes and
writes nothing.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from benchmarks.engine import config_of_workload
from benchmarks.peak import round_flop
from benchmarks.workload import Workload, write_files

MINILM = Workload(n_devices=80, n_steps=4, batch_size=16, seq_len=64, n_layers=6, hidden_size=384, depth=6, n_heads=12)
ROBERTA_BASE = Workload(
    n_devices=80, n_steps=10, batch_size=16, seq_len=128, n_layers=12, hidden_size=768, depth=12, n_heads=12
)
PAGE = Path(__file__).parent / "gpu.md"
WANTED_SPEED_UP, WANTED_SHARE = 20, 0.35


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured on, and how much of it.

    Attributes:
        n_rounds: timed rounds of a workload; the one before them warms up.
        matrix: rows and columns of the matrix product whose rate is measured.
        learnt: settings of the small run that is made on the CPU and here.
    """

    thin: Workload
    wide: Workload
    n_rounds: int
    matrix: int
    learnt: dict[str, Any]


FULL = Sizes(
    thin=MINILM,
    wide=ROBERTA_BASE,
    n_rounds=2,
    matrix=8192,
    learnt={"rounds": 8, "testbed.n_devices": 16, "data.n_train": 1600, "data.n_test": 400},
)
SMALL = Sizes(
    thin=replace(MINILM, n_devices=4, n_steps=2, batch_size=8, seq_len=8, n_layers=2, hidden_size=24, depth=2),
    wide=replace(ROBERTA_BASE, n_devices=2, n_steps=2, batch_size=8, seq_len=8, n_layers=2, hidden_size=24, depth=2),
    n_rounds=1,
    matrix=128,
    learnt={"rounds": 1, "testbed.n_devices": 4, "data.n_train": 80, "data.n_test": 40, "training.local_steps": 1},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where to train")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs; nothing is written")
    options = parser.parse_args()
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here; --device cpu --small takes the same way without one")
    lines = []
    for line in report(options.device, SMALL if options.small else FULL):
        print(line, flush=True)
        lines.append(line)
    status = 0
    if options.device == "cuda":
        tests = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "cuda"], capture_output=True, text=True)
        status = tests.returncode
        lines += ["", f"`pytest -m cuda`: {(tests.stdout.splitlines() or ['nothing was printed'])[-1].strip('= ')}"]
        print(tests.stdout if status else lines[-1], flush=True)
        if not options.small:
            PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    raise SystemExit(status)


def report(device: str, sizes: Sizes) -> Iterator[str]:
    """The page, line by line as it is measured."""
    import torch

    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    yield from ("# On a GPU", "", f"Written by `python -m benchmarks.gpu` on: {card}, torch {torch.__version__}.", "")
    precisions = ("float32", "tf32", "bfloat16") if device == "cuda" else ("float32", "bfloat16")
    yield from rounds_table(device, sizes, precisions)
    yield ""
    yield from rate(device, sizes)
    yield ""
    yield from learnt_table(device, sizes, precisions)


def rounds_table(device: str, sizes: Sizes, precisions: tuple[str, ...]) -> Iterator[str]:
    """Rounds of the thin model, by how many devices share a pass."""
    work = sizes.thin
    yield f"{work.n_devices} devices, {work.n_layers} layers of {work.hidden_size}, {_steps(work)}."
    yield f"Wanted: all in one stack at least {WANTED_SPEED_UP} times as fast as one at a time in the same arithmetic."
    yield from ("", "| arithmetic | devices in a stack | s a round | times as fast |", "|---|---|---|---|")
    for precision in precisions:
        stacks = [1, min(16, work.n_devices), work.n_devices] if precision == "float32" else [1, work.n_devices]
        alone_s = 0.0
        for stacked in dict.fromkeys(stacks):
            round_s = seconds_a_round(work, device, precision, stacked, sizes.n_rounds)
            alone_s = alone_s or round_s
            yield f"| {precision} | {stacked} | {round_s:.3f} | {alone_s / round_s:.1f} |"


def rate(device: str, sizes: Sizes) -> Iterator[str]:
    """The share of the matrix-product rate that a round of the wide model reaches in bfloat16."""
    work = sizes.wide
    peak = products_flop_per_s(device, sizes.matrix)
    flop = round_flop(work)
    yield f"{work.n_devices} devices, {work.n_layers} layers of {work.hidden_size} (RoBERTa-base has 12 of 768),"
    yield f"{_steps(work)}, bfloat16: {flop / 1e12:.3g} TFLOP a round."
    yield f"Products of {sizes.matrix} x {sizes.matrix} reach {peak / 1e12:.3g} TFLOP/s. Wanted: {WANTED_SHARE} of it."
    yield from ("", "| devices in a stack | s a round | share of the rate |", "|---|---|---|")
    for stacked in ("auto", work.n_devices):
        round_s = seconds_a_round(work, device, "bfloat16", stacked, sizes.n_rounds)
        yield f"| {stacked} | {round_s:.3f} | {flop / round_s / peak:.2f} |"


def _steps(work: Workload) -> str:
    return f"{work.n_steps} steps of {work.batch_size} x {work.seq_len} tokens"


def learnt_table(device: str, sizes: Sizes, precisions: tuple[str, ...]) -> Iterator[str]:
    """What the same small run learns on the CPU and here, in each arithmetic."""
    yield "The same small run of LEGEND on the CPU in float32 and here: accuracy and held-out loss of its last round,"
    yield "and the largest distance of any number of the exported adapter from that of the CPU."
    yield from ("", "| where | arithmetic | accuracy | loss | largest distance |", "|---|---|---|---|---|")
    reference = learnt(sizes, "cpu", "float32")
    yield f"| CPU | float32 | {reference.accuracy:.4f} | {reference.loss:.4f} | |"
    for precision in precisions:
        found = learnt(sizes, device, precision)
        distance = max(float(abs(found.adapter[name] - array).max()) for name, array in reference.adapter.items())
        yield f"| {device} | {precision} | {found.accuracy:.4f} | {found.loss:.4f} | {distance:.2e} |"


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What a run ends with."""

    accuracy: float
    loss: float
    adapter: dict[str, Any]


def learnt(sizes: Sizes, device: str, precision: str) -> Learnt:
    """The small run, in a process of its own."""
    from safetensors.numpy import load_file

    from emulator import load

    settings = {
        **sizes.learnt,
        "policy.path": "legend",
        "backend.kind": "inline",
        "backend.gpus_per_host": 1 if device == "cuda" else 0,
        "training.precision": precision,
        "results.checkpoint_rounds": 0,
    }
    with tempfile.TemporaryDirectory() as folder:
        given = [argument for key, value in settings.items() for argument in ("--set", f"{key}={value}")]
        _run(sys.executable, "-m", "emulator.cli", "run", *given, "--out", f"{folder}/run")
        last = load(f"{folder}/run").rounds.iloc[-1]
        [file] = Path(folder, "run").rglob("adapter_model.safetensors")
        return Learnt(accuracy=last["accuracy"], loss=last["loss"], adapter=load_file(file))


def seconds_a_round(work: Workload, device: str, precision: str, stacked: int | str, n_rounds: int) -> float:
    """The median over ``n_rounds`` rounds behind a first one, in a process of its own."""
    from emulator import load

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(work, folder)
        config = tomllib.loads(config_of_workload(work, folder, n_rounds + 1))
        config["training"] |= {"precision": precision, "devices_stacked": stacked}
        config["backend"] = {"kind": "inline", "gpus_per_host": 1 if device == "cuda" else 0}
        (folder / "run.toml").write_text(tomli_w.dumps(config))
        started = ("--started-s", str(time.time()))
        _run(sys.executable, "-m", "benchmarks.jetbed_run", str(folder / "run.toml"), str(folder / "out"), *started)
        host = load(folder / "out").host
    rounds_s = host[host["phase"] == "round"].sort_values("round_index")["wall_s"].tolist()
    return statistics.median(rounds_s[1 : n_rounds + 1])


def products_flop_per_s(device: str, size: int) -> float:
    """The rate of bfloat16 products of ``size x size`` matrices, the best of five times twenty in a row."""
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best_s = float("inf")
    for _ in range(6):  # the first warms up
        start_s = time.perf_counter()
        for _ in range(20):
            torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        best_s = min(best_s, time.perf_counter() - start_s)
    return 20 * 2 * size**3 / best_s


def _run(*command: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{finished.stderr}")


if __name__ == "__main__":
    main()
