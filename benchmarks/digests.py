"""One digest for each table that some 130 runs leave behind: ``python -m benchmarks.digests [--only NAME] [--check]``.

Made before and after a change that shall alter no result, and compared, they show that it altered none: every byte of
every column counts, and of every exported weight. What is hashed is what files say, not how Parquet stores it.
Wall-clock times, versions and paths are left out. The last bits of what is trained depend on the version of torch and
on the processor, so that digests are comparable only on one machine with one version; the first line says which.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.digest_scenarios import INPUTS, Scenario, scenarios, write_inputs

STORED = Path(__file__).parent / "digests.txt"
HEX_DIGITS = 16
FACTS = (
    "status error warning policy_declares trained_model priced_model priced_seq_len priced_shapes outside_known_range "
    "cluster n_devices n_rounds label_names n_train_examples n_test_examples majority_accuracy"
).split()
"""What is hashed of run.json: what a run found out, not how it was asked to run, when, or by what versions."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="only runs whose name contains this")
    parser.add_argument(
        "--check",
        type=Path,
        nargs="?",
        const=STORED,
        metavar="FILE",
        help="compare with a stored output (without FILE: benchmarks/digests.txt); status 1 where lines differ",
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side, of one thread each")
    options = parser.parse_args()
    chosen = [scenario for scenario in scenarios() if options.only in scenario.name]
    if not chosen:
        parser.error(f"--only: no run has such a name, got {options.only!r}")
    stored = options.check.read_text(encoding="utf-8").splitlines() if options.check else None
    start_s = time.monotonic()
    lines = [header()]
    if stored is None:
        print(lines[0], flush=True)
    with tempfile.TemporaryDirectory() as name:
        # Libraries read this as they are imported, which the processes of the pool do after this.
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
        with ProcessPoolExecutor(options.jobs, get_context("spawn"), _begin_process, (Path(name),)) as pool:
            for found in pool.map(digests_of, chosen):
                lines += found
                if stored is None:
                    print(*found, sep="\n", flush=True)
    print(f"{len(chosen)} runs in {time.monotonic() - start_s:.0f} s", file=sys.stderr)
    if stored is not None:
        sys.exit(compare(stored, lines, options.only))


def header() -> str:
    """What the last bits depend on."""
    cpu_info = Path("/proc/cpuinfo")
    models = [line for line in cpu_info.read_text().splitlines() if "model name" in line] if cpu_info.exists() else []
    cpu = models[0].partition(":")[2].strip() if models else platform.processor() or platform.machine()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "numpy"))
    return (
        f"# python -m benchmarks.digests, Python {platform.python_version()}, {libraries}, on {cpu}; "
        "comparable only with the same, on one machine"
    )


def compare(stored: Sequence[str], made: Sequence[str], only: str) -> int:
    """Says which lines of two outputs differ, of runs whose name contains ``only``; the status to exit with."""
    stored_header = next((line for line in stored if line.startswith("#")), "")
    if stored_header != made[0]:
        print(f"made under other conditions, which alone may change digests:\n  {stored_header}\n  {made[0]}")
    before, after = _digest_by_table(stored), _digest_by_table(made)
    before = {key: digest for key, digest in before.items() if only in key.split()[0]}
    differing = sorted(key for key in before | after if before.get(key) != after.get(key))
    for key in differing:
        print(f"{key}: {before.get(key, 'not there')} before, {after.get(key, 'not there')} now")
    if not differing:
        print(f"All {len(after)} digests are equal.")
    return 1 if differing else 0


def digests_of(scenario: Scenario) -> list[str]:
    """Runs ``scenario``; a line for each of its tables, one for ``run.json``, and those of what it exports."""
    from emulator import emulate
    from emulator.errors import UserError

    inputs = str(_folder / "inputs")
    settings = {
        key: value.replace(INPUTS, inputs) if isinstance(value, str) else value
        for key, value in scenario.settings.items()
    }
    out = _folder / "run"
    try:
        info = emulate(settings, out).info
        found = {table: table_digest(out / table) for table in info["tables"] if table != "host"}
        if scores := scores_digest(out / "rounds"):
            found["rounds/scores"] = scores
        found["run.json"] = _digest(_as_text({key: info.get(key) for key in FACTS}))
        found |= {f"adapter/{path.name}": file_digest(path) for path in sorted(out.glob("adapter/*"))}
    except UserError as error:
        found = {"refused": _digest(str(error).replace(str(_folder), ""))}
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return [f"{scenario.name} {table} {digest}" for table, digest in found.items()]


ADDED = (
    "perplexity",
    "token_accuracy",
    "own_score",
    "own_loss",
    "own_score_mean",
    "own_score_worst_tenth",
    "own_score_spread",
    "own_loss_mean",
    "own_loss_worst_tenth",
    "own_loss_spread",
    "option_accuracy",
    "option_accuracy_norm",
)
"""Columns that came after digests were stored; where nothing stands in them, they count as not there."""


SCORES = (
    "macro_f1",
    "micro_f1",
    "exact_match",
    "mcc",
    "calibration_error",
    "class_f1",
    "pearson",
    "spearman",
    "mse",
)
"""Columns of ``rounds`` that came later still; those in which something stands have a digest of their own."""


def table_digest(folder: Path) -> str:
    """Of names, types and values of all columns, in the order of columns and rows, however rows are split in parts."""
    rows = _rows(folder)
    left_out = {*SCORES, *_empty(rows, ADDED)}
    return _digest_of_columns(rows, [name for name in rows.schema.names if name not in left_out])


def scores_digest(folder: Path) -> str | None:
    """Of the columns :data:`SCORES` in which something stands; None without one."""
    rows = _rows(folder)
    names = [name for name in rows.schema.names if name in SCORES and name not in _empty(rows, SCORES)]
    return _digest_of_columns(rows, names) if names else None


def _rows(folder: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pa.concat_tables(pq.read_table(part) for part in sorted(folder.glob("part-*.parquet")))


def _empty(rows: Any, names: Sequence[str]) -> set[str]:
    return {name for name in names if name in rows.schema.names and rows[name].null_count == len(rows)}


def _digest_of_columns(rows: Any, names: Sequence[str]) -> str:
    # repr of a float is exact, and tells -0.0 from 0.0 and null from NaN.
    return _digest(*(f"{name} {rows.schema.field(name).type} {rows[name].to_pylist()!r}" for name in names))


def file_digest(path: Path) -> str:
    """Of the tensors of a safetensors file by name, of the content of a JSON file, of all bytes of another."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        return _digest(
            *(f"{name} {each.dtype} {tuple(each.shape)} {each.double().tolist()!r}" for name, each in tensors.items())
        )
    if path.suffix == ".json":
        return _digest(_as_text(_in_order(json.loads(path.read_text(encoding="utf-8")))))
    return hashlib.sha256(path.read_bytes()).hexdigest()[:HEX_DIGITS]


_folder = Path()
"""Of this process of the pool: ``inputs``, and ``run`` while one goes on."""


def _begin_process(parent: Path) -> None:
    global _folder
    _folder = parent / str(os.getpid())
    (_folder / "inputs").mkdir(parents=True)
    write_inputs(_folder / "inputs")


def _as_text(content: Any) -> str:
    """``content`` without where this checkout and this process's files lie."""
    return json.dumps(content, sort_keys=True).replace(str(_folder), "").replace(str(STORED.parents[1]), "")


def _in_order(content: Any) -> Any:
    """``content`` without versions, lists of texts sorted: peft writes sets, whose order differs between processes."""
    if isinstance(content, dict):
        return {key: _in_order(value) for key, value in content.items() if "version" not in key}
    if isinstance(content, list):
        texts = all(isinstance(each, str) for each in content)
        return sorted(content) if texts else [_in_order(each) for each in content]
    return content


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:HEX_DIGITS]


def _digest_by_table(lines: Sequence[str]) -> dict[str, str]:
    pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {key: digest for key, _, digest in pairs}


if __name__ == "__main__":
    main()
