"""Writes what was measured, whole or not at all: the profile as TOML, the link beside it, all timed steps as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tomli_w

from device_profiles.catalog import GIB, MIB, load_link, load_profile
from device_profiles.records import AllocatorName
from emulator.calibration.fit import Fit
from emulator.calibration.link import MeasuredLink
from emulator.calibration.machine import Machine
from emulator.calibration.measurement import MeasuredStep
from emulator.errors import ConfigError
from emulator.storage.files import check_writable, replaced
from emulator.world.price.step_kinds import step_of

KEYS = {
    "flop_per_s": "fp32_tflop_per_s",
    "memory_bytes_per_s": "memory_gb_per_s",
    "dispatch_s": "dispatch_us",
    "step_overhead_s": "step_overhead_ms",
}
"""What a profile calls the figures of a fit."""

_BYTES_PER_S_PER_MBIT_PER_S = 1e6 / 8
_DIGITS = 4
_LEAST_SPREAD = 0.02  # no two measurements agree better
_MODE_ID = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerFigures:
    """What the machine draws while it waits, trains, and sends or receives, and who says so."""

    idle_w: float
    compute_w: float
    transfer_w: float
    kind: str
    source: str
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """All that a profile is made of.

    ``amp_flop_per_s`` is None where half precision was not measured, ``runtime_memory_bytes`` where that was not.
    """

    title: str
    mode_name: str
    machine: Machine
    fit: Fit
    steps: tuple[MeasuredStep, ...]
    amp_flop_per_s: float | None
    power: PowerFigures
    n_threads: int | None
    software: str
    link: MeasuredLink | None
    peer: str
    runtime_memory_bytes: int | None = None
    allocator: AllocatorName = "glibc"


def check_out(path: Path, *, with_link: bool) -> None:
    """See to it, before anything is measured, that the files can be written.

    Raises:
        ConfigError: they cannot, or one of them is there.
    """
    if path.suffix != ".toml":
        raise ConfigError(f"--out must end in .toml, which tells a profile's file from a name; got {str(path)!r}")
    check_writable(path)
    for file in (path, csv_path(path), *([link_path(path)] if with_link else [])):
        if file.exists():
            raise ConfigError(f"--out: {str(file)!r} exists and is not overwritten; remove it or give another name")


def csv_path(path: Path) -> Path:
    """The file of the timed steps that belongs to the profile at ``path``."""
    return path.with_suffix(".csv")


def link_path(path: Path) -> Path:
    """The file of the link that belongs to the profile at ``path``."""
    return path.with_name(f"{path.stem}-link.toml")


def write_calibration(path: Path, calibration: Calibration) -> tuple[Path, ...]:
    """Write profile, steps and, where it was measured, link; the files that there are now.

    Profile and link are read back, and every file is written whole under another name, before any gets its name.

    Raises:
        UserError: the disk cannot be written.
    """
    texts = {path: profile_text(calibration), csv_path(path): steps_text(calibration.steps)}
    if calibration.link is not None:
        texts[link_path(path)] = link_text(calibration.link, calibration.peer)
    _check_readable(texts, path)
    with ExitStack() as stack:
        # The profile comes first, and so gets its name last: where it is, so are the others.
        for file, text in texts.items():
            stack.enter_context(replaced(file)).write_text(text, encoding="utf-8")
    return tuple(texts)


def _check_readable(texts: Mapping[Path, str], path: Path) -> None:
    with TemporaryDirectory() as folder:
        for file, text in texts.items():
            (Path(folder) / file.name).write_text(text, encoding="utf-8")
        load_profile(Path(folder) / path.name)
        if link_path(path) in texts:
            load_link(Path(folder) / link_path(path).name)


def profile_text(calibration: Calibration) -> str:
    """The profile as TOML."""
    fit, machine = calibration.fit, calibration.machine
    mode: dict[str, Any] = {
        "name": calibration.mode_name,
        "mode_id": _MODE_ID,
        "step_law": fit.law,
        "fp32_tflop_per_s": _rounded(fit.flop_per_s / 1e12),
        "amp_tflop_per_s": _rounded((calibration.amp_flop_per_s or fit.flop_per_s) / 1e12),
        "memory_gb_per_s": _rounded(fit.memory_bytes_per_s / 1e9),
        "step_overhead_ms": _rounded(fit.step_overhead_s * 1e3),
        "dispatch_us": _rounded(fit.dispatch_s * 1e6),
        "idle_w": _rounded(calibration.power.idle_w),
        "compute_w": _rounded(calibration.power.compute_w),
        "transfer_w": _rounded(calibration.power.transfer_w),
        "cpu": machine.processor,
    }
    if calibration.n_threads is not None:
        mode["cpu_threads"] = calibration.n_threads
    device: dict[str, Any] = {
        "title": calibration.title,
        "memory_gib": _rounded_down(machine.memory_bytes / GIB),
        "usable_memory_gib": _rounded_down(machine.available_memory_bytes / GIB),
        "allocator": calibration.allocator,
        "default_mode": calibration.mode_name,
    }
    if calibration.runtime_memory_bytes is not None:
        device["runtime_memory_mib"] = round(calibration.runtime_memory_bytes / MIB)
    content = {
        "device": device,
        "power_mode": [mode],
        "known_range": _known_range(calibration),
        "provenance": _provenance(calibration),
    }
    heading = "# Measured by 'jetbed calibrate'; 'jetbed validate' says how far it can be believed."
    return f"{heading}\n{tomli_w.dumps(content)}"


def link_text(link: MeasuredLink, peer: str) -> str:
    """The link to the peer as TOML."""
    content = {
        "kind": "constant",
        "download_mbit_per_s": _rounded(link.download_bytes_per_s / _BYTES_PER_S_PER_MBIT_PER_S),
        "upload_mbit_per_s": _rounded(link.upload_bytes_per_s / _BYTES_PER_S_PER_MBIT_PER_S),
        "latency_ms": _rounded(link.latency_s * 1e3),
        "provenance": {
            "all": {
                "covers": ["download_mbit_per_s", "upload_mbit_per_s", "latency_ms"],
                "kind": "measured",
                "source": f"jetbed calibrate: one TCP connection to {peer}, {link.seconds:g} s in each direction",
                "date": date.today().isoformat(),
                "note": "Goodput; latency is half of the least of 20 round trips.",
            }
        },
    }
    return f"# Measured by 'jetbed calibrate'.\n{tomli_w.dumps(content)}"


def steps_text(steps: Sequence[MeasuredStep]) -> str:
    """The timed steps as CSV, with what the cost model counts for them."""
    rows = [step_row(step) for step in steps]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def step_row(step: MeasuredStep) -> Mapping[str, Any]:
    """What a table says of a timed step, by column."""
    setting = step.setting
    demand = step_of(setting.model, setting.work, step.precision).demand()
    return {
        "model": "decoder" if setting.is_decoder else "encoder",
        "hidden_size": setting.hidden_size,
        "n_layers": setting.n_layers,
        "depth": setting.depth,
        "rank": setting.rank,
        "targets": setting.targets,
        "batch_size": setting.batch_size,
        "seq_len": setting.seq_len,
        "kind": setting.kind.value,
        "precision": step.precision,
        "step_s": f"{step.step_s:.6g}",
        "median_step_s": f"{step.median_step_s:.6g}",
        "n_steps": step.n_steps,
        "peak_memory_bytes": "" if step.peak_memory_bytes is None else step.peak_memory_bytes,
        "step_flop": f"{demand.forward_flop + demand.backward_flop:.6g}",
        "element_bytes": f"{demand.forward_element_bytes + demand.backward_element_bytes:.6g}",
        "weight_bytes": f"{demand.forward_bytes + demand.backward_bytes:.6g}",
        "n_operations": demand.n_forward_operations + demand.n_backward_operations,
    }


def _known_range(calibration: Calibration) -> Mapping[str, Any]:
    settings = [step.setting for step in calibration.steps]
    n_tokens = [setting.batch_size * setting.seq_len for setting in settings]
    n_parameters = [setting.model.n_parameters / 1e6 for setting in settings]
    return {
        "step_tokens": [min(n_tokens), max(n_tokens)],
        "million_parameters": [_rounded_down(min(n_parameters)), _rounded(max(n_parameters) + 0.05)],
        "precisions": sorted({step.precision for step in calibration.steps}, reverse=True),
        "kinds": sorted({setting.kind.value for setting in settings}),
    }


def _provenance(calibration: Calibration) -> Mapping[str, Any]:
    fit, machine, power = calibration.fit, calibration.machine, calibration.power
    threads = "" if calibration.n_threads is None else f", threads: {calibration.n_threads}"
    measured = {
        "kind": "measured",
        "source": f"jetbed calibrate on {machine.processor}{threads}, {calibration.software}",
        "date": date.today().isoformat(),
    }
    how_sure = "how much leaving out the steps of one model moves the figure"
    fitted = "Fitted"
    if fit.like:
        how_sure = "the standard deviation of the factor, of which the others are known to be near"
        fitted = f"That of {fit.like}, scaled by a factor that was fitted"
    note = (
        f"{fitted} to {len(fit.errors)} training steps in fp32 (the CSV file of the same name), law {fit.law}; priced, "
        f"they are {fit.mean_error_fraction:.1%} off in the mean and {fit.worst_error_fraction:.1%} at worst. The "
        f"uncertainty is {how_sure}."
    )
    found: dict[str, Any] = {}
    for figure, key in KEYS.items():
        if figure in fit.not_determined:
            found[key] = {
                "kind": "assumed",
                "source": "jetbed calibrate: not determined by the steps that were timed",
                "date": measured["date"],
                "note": "What the fit left over: zero, at its bound, or moved by more than itself when the steps of "
                "one model are left out. The timed steps hardly depend on it; others may.",
            }
            continue
        spread = max(fit.spread[figure], _LEAST_SPREAD)
        found[key] = measured | {"note": note, "uncertainty": f"±{100 * spread:.0f} %"}
    if fit.like and calibration.amp_flop_per_s is not None:
        found["amp_tflop_per_s"] = {
            "kind": "assumed",
            "source": f"{fit.like}: no half precision was measured on this machine",
            "note": "As many times the figure of fp32 as there.",
            "uncertainty": "×/÷ 1.4",
        }
    elif calibration.amp_flop_per_s is None:
        found["amp_tflop_per_s"] = {
            "kind": "assumed",
            "source": "no half precision was measured on this machine",
            "note": "The figure of fp32 is repeated.",
        }
    else:
        note = "From steps in mixed precision, all other figures as in fp32."
        found["amp_tflop_per_s"] = measured | {"note": note, "uncertainty": "±15 %"}
    found["memory"] = {
        "covers": ["memory_gib", "usable_memory_gib"],
        **measured,
        "note": f"{machine.memory_source}, while PyTorch was loaded and before any model was.",
    }
    if calibration.runtime_memory_bytes is not None:
        found["runtime_memory_mib"] = measured | {
            "note": "Resident set of a process behind imports and a first small step, whose tensors are gone; shared "
            "libraries are counted in full.",
            "uncertainty": f"±{100 * _LEAST_SPREAD:.0f} %",
        }
    found["watts"] = {
        "covers": ["idle_w", "compute_w", "transfer_w"],
        "kind": power.kind,
        "source": power.source,
        "date": date.today().isoformat(),
        **({"note": power.note} if power.note else {}),
    }
    facts = ["cpu"] + (["cpu_threads"] if calibration.n_threads is not None else [])
    found["facts"] = {"covers": facts, **measured}
    found["known_range"] = measured | {"note": "The settings that were timed."}
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _rounded_down(value: float) -> float:
    """Two decimals, and never more than there is."""
    return int(100 * value) / 100
