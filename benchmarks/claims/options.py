"""What the programs of this package take on their command lines: where claims are run, at what size, on what."""

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.claims.plan import SIZES, WORLDS
from emulator.running.limits import n_cores

N_PARALLEL_ON_A_GPU = 12
"""Groups that share a GPU: enough to fill it, and each takes some hundred megabytes and a core."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that all programs have in common."""
    parser.add_argument("--size", choices=SIZES, default="small", help="how many rounds, devices and examples")
    parser.add_argument("--world", choices=WORLDS, default="builtin", help="what is trained, on what")
    parser.add_argument("--model", type=Path, help="the world real: a pre-trained encoder's folder")
    parser.add_argument("--data", type=Path, help="the world real: a file with text<TAB>label, without a header")
    parser.add_argument("--test-data", type=Path, help="the world real: the same, held out")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where models are trained")
    parser.add_argument(
        "--precision",
        choices=("float32", "tf32", "bfloat16"),
        help="what models are trained in; without, float32 on the CPU and tf32 on a GPU",
    )
    parser.add_argument("--parallel", type=int, help="sweeps at a time; a core each without, or 12 on a GPU")
    parser.add_argument("--out", type=Path, default=Path("runs/claims"), help="the folder of all claims")


def given(options: argparse.Namespace, world: str) -> dict[str, Any]:
    """The settings that follow from the options, for what is run in ``world``.

    Exits with status 2 where files are missing or not wanted.
    """
    paths = {"--model": options.model, "--data": options.data, "--test-data": options.test_data}
    names = ", ".join(paths)
    if options.world == "real" and None in paths.values():
        _refuse(f"--world real takes {names}; missing: {_named(paths, are_given=False)}")
    if options.world != "real" and any(paths.values()):
        _refuse(f"{names} are for --world real, got --world {options.world} with {_named(paths, are_given=True)}")
    for name, path in paths.items():
        if path is not None and not path.exists():
            _refuse(f"{name}: there is no such file or folder: {str(path)!r}")
    table: dict[str, Any] = {"backend": {"gpus_per_host": 0}}
    precision = options.precision
    if options.device == "cuda":
        # All claims take some 2e16 FLOP, with which a large GPU is busy for the whole eight minutes in float32.
        table, precision = {"backend": {"gpus_per_host": 1}}, precision or "tf32"
    if precision:
        table["training"] = {"precision": precision}
    if world == "real":
        table["model"] = {"train": str(options.model.absolute())}
        table["data"] = {"source": str(options.data.absolute()), "test_source": str(options.test_data.absolute())}
    return table


def n_parallel(options: argparse.Namespace) -> int:
    """How many sweeps are under way at a time.

    Exits with status 2 where it is less than one.
    """
    if options.parallel is None:
        return N_PARALLEL_ON_A_GPU if options.device == "cuda" else n_cores()
    if options.parallel < 1:
        _refuse(f"--parallel is a number of sweeps, at least 1, got {options.parallel}")
    return int(options.parallel)


def _named(paths: dict[str, Path | None], *, are_given: bool) -> str:
    return ", ".join(name for name, path in paths.items() if (path is not None) == are_given)


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)
