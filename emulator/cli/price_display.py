"""What ``jetbed price`` prints: what a local step would cost on a board, how sure that is, and why."""

import json
import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column
from rich.text import Text

from emulator.cli.price import PriceRequest, priced
from emulator.records import Encoding, Work, WorkKind
from emulator.report.terminal.console import FittedTable, terminal
from emulator.report.terminal.units import size
from emulator.shapes.encoder_decoder import EncoderDecoderSpec
from emulator.world.price.price_bands import Band, StepPrice


def show_price(request: PriceRequest, as_json: bool) -> None:
    """Print the price of one local step; errors as for :func:`~emulator.cli.price.priced`."""
    price = priced(request)
    if as_json:
        print(json.dumps(_as_plain(price), indent=2, ensure_ascii=False, allow_nan=False))
        return
    console = terminal()
    _show_heading(console, price)
    _show_costs(console, price)
    _show_memory(console, price)
    _show_origins(console, price, request.device)
    if price.outside:
        console.print(f"extrapolated, outside the range in which this profile is known: {price.outside}")


def _as_plain(price: StepPrice) -> dict[str, Any]:
    """The price for scripts, in SI units; a band is the pair of its least and its most."""
    time, memory = price.time, price.memory
    return {
        "device": price.profile.name,
        "mode": price.mode.name,
        "model": price.model.name,
        "precision": price.precision,
        "base_precision": price.savers.base_precision,
        "checkpointing": price.savers.checkpointing,
        "accumulation_steps": price.savers.accumulation_steps,
        "optimizer": price.optimizer.name,
        "work": _work_as_plain(price.work),
        "step_s": price.step_s.value,
        "step_s_band": [price.step_s.low, price.step_s.high],
        "swap_s": price.swap_s.value,
        "forward_s": time.forward_s,
        "backward_s": time.backward_s,
        "overhead_s": time.overhead_s,
        "forward_limit": price.forward_limit,
        "backward_limit": price.backward_limit,
        "step_flop": price.demand.forward_flop + price.demand.backward_flop,
        "forward_flop": price.demand.forward_flop,
        "backward_flop": price.demand.backward_flop,
        "compute_w": price.compute_w.value,
        "compute_w_band": [price.compute_w.low, price.compute_w.high],
        "step_energy_j": price.energy_j.value,
        "step_energy_j_band": [price.energy_j.low, price.energy_j.high],
        "download_compression": price.compression.download.kind,
        "upload_compression": price.compression.upload.kind,
        "download_bytes": price.download_bytes,
        "upload_bytes": price.upload_bytes,
        "peak_memory_bytes": memory.total_bytes,
        "memory_parts_bytes": {
            "weights": memory.weights_bytes,
            "activations": memory.activations_bytes,
            "allocator": memory.allocator_bytes,
            "optimizer": memory.optimizer_bytes,
            "workspace": memory.workspace_bytes,
        },
        "runtime_memory_bytes": price.profile.runtime_memory_bytes,
        "allocator": price.profile.allocator,
        "process_memory_bytes": price.process_bytes,
        "swapped_bytes": price.profile.missing_bytes(memory.total_bytes) if price.profile.swap else 0,
        "usable_memory_bytes": round(price.usable_memory_bytes.value),
        "usable_memory_bytes_band": [
            round(price.usable_memory_bytes.low),
            min(round(price.usable_memory_bytes.high), price.profile.memory_bytes),
        ],
        "fits": price.fits,
        "in_known_range": price.outside is None,
        "outside_known_range": price.outside,
        "provenance": {figure.key: {"value": figure.value, **asdict(figure.origin)} for figure in price.figures},
    }


def _work_as_plain(work: Work) -> dict[str, Any]:
    told_otherwise = ("adapters", "once", "per_step")  # of the latter, a step by itself has nothing
    plain = {each.name: getattr(work, each.name) for each in fields(work) if each.name not in told_otherwise}
    return plain | {"ranks": work.adapters.ranks, "targets": work.adapters.places}


def _show_heading(console: Console, price: StepPrice) -> None:
    console.print(Text.assemble((price.profile.name, "bold"), f" in mode {price.mode.name}, {price.precision}"))
    console.print(f"one local step of {price.model.name}, batch {_HEADINGS[price.model.family](price)}")


def _convnet_heading(price: StepPrice) -> str:
    work = price.work
    verb = "inference" if work.kind is WorkKind.INFERENCE else "training"
    return f"{work.batch_size}; {verb} of the {work.forward_layers} of {price.model.n_layers} layers below the cut"


def _transformer_heading(price: StepPrice) -> str:
    work = price.work
    ranks = work.adapters.ranks
    n_adapted = sum(rank > 0 for rank in ranks)
    adapters = f"rank {max(ranks, default=0)} on {', '.join(work.adapters.places)}"
    layers = f"{work.forward_layers} layers"
    if work.forward_layers < price.model.n_layers:
        layers += f" below a cut of {price.model.n_layers}"
    what = {
        WorkKind.ADAPTERS: f"LoRA of {adapters} in the top {n_adapted} of {layers}",
        WorkKind.WEIGHTS: f"full fine-tuning of the top {work.backward_layers} of {layers}",
        WorkKind.INFERENCE: f"inference, LoRA of {adapters} in the top {n_adapted} layers",
    }[work.kind]
    if work.quantized_layers:
        what += f", {work.quantized_layers} with {work.activation_bits}-bit activations"
    if work.width_fraction < 1:
        what += f", {work.width_fraction:.0%} of heads and channels kept"
    savers = price.savers
    if savers.base_precision != "float32":
        what += f", frozen weights in {savers.base_precision}"
    if savers.checkpointing:
        what += ", checkpointing"
    if len(sizes := savers.pass_sizes(work.batch_size)) > 1:
        what += f", in {len(sizes)} passes"
    return f"{work.batch_size} x length {_lengths(price)} tokens; {what}"


def _lengths(price: StepPrice) -> str:
    """The tokens of an example, and of a step."""
    work, model = price.work, price.model
    if isinstance(model, EncoderDecoderSpec):
        response_len = model.response_len_at(work.seq_len)
        return f"{work.seq_len} + {response_len} = {work.batch_size * (work.seq_len + response_len)}"
    return f"{work.seq_len} = {work.batch_size * work.seq_len}"


_HEADINGS: Mapping[str, Callable[[StepPrice], str]] = {
    "transformer": _transformer_heading,
    "encoder-decoder": _transformer_heading,
    "convnet": _convnet_heading,
}
"""By the family of the model."""


def _show_costs(console: Console, price: StepPrice) -> None:
    demand, time = price.demand, price.time
    table = FittedTable("", Column("", justify="right"), "from", "to", "", box=box.SIMPLE_HEAD)
    rows = [
        ("forward", time.forward_s, f"{_flop(demand.forward_flop)}, limited by {price.forward_limit}"),
        ("backward", time.backward_s, f"{_flop(demand.backward_flop)}, limited by {price.backward_limit}"),
        ("overhead", time.overhead_s, "optimizer, and what no batch shrinks"),
    ]
    for name, seconds, note in rows:
        table.add_row(name, _seconds(seconds), "", "", note if seconds else "none")
    if price.swap_s.value:
        table.add_row("swap", *_cells(price.swap_s, _seconds), "what does not fit goes and comes back, once a step")
    table.add_row("step", *_cells(price.step_s, _seconds), _flop(demand.forward_flop + demand.backward_flop))
    table.add_row("energy", *_cells(price.energy_j, _joules), f"at {price.compute_w.value:.3g} W")
    table.add_row(
        "download",
        size(price.download_bytes),
        "",
        "",
        f"before the local steps, however many{_encoded(price.compression.download)}",
    )
    table.add_row("upload", size(price.upload_bytes), "", "", f"behind them{_encoded(price.compression.upload)}")
    console.print(table)


def _encoded(encoding: Encoding) -> str:
    return "" if encoding.kind == "none" else f", as {encoding.kind}"


def _show_memory(console: Console, price: StepPrice) -> None:
    memory, usable = price.memory, price.usable_memory_bytes
    table = FittedTable("peak memory", Column("", justify="right"), "", box=box.SIMPLE_HEAD)
    table.add_row("weights", size(memory.weights_bytes), "")
    table.add_row("activations", size(memory.activations_bytes), "kept for the backward pass")
    table.add_row("optimizer", size(memory.optimizer_bytes), _OPTIMIZER_NOTES[price.optimizer.name])
    table.add_row("working set", size(memory.workspace_bytes), "of the largest layer, or of the loss")
    beyond = f"held beyond them ({price.profile.allocator}), by a replay"
    if memory.allocator_bytes < 0:
        beyond = f"less, as they are not all at their most at once ({price.profile.allocator}, by a replay)"
    table.add_row("allocator", _signed_size(memory.allocator_bytes), beyond)
    verdict = "fits" if price.fits else "DOES NOT FIT"
    if price.swap_s.value:
        verdict += " with swap"
    around = f" ({size(usable.low)} to {size(usable.high)})" if usable.low < usable.high else ""
    table.add_row("together", size(memory.total_bytes), f"{verdict} into {size(usable.value)} usable{around}")
    if swap := price.profile.swap:
        missing = size(price.profile.missing_bytes(memory.total_bytes))
        table.add_row("swapped", missing, f"of at most {size(swap.gained_bytes)} beyond it ({swap.name})")
    if price.process_bytes is not None:
        runtime = size(price.profile.runtime_memory_bytes or 0)
        table.add_row("process", size(price.process_bytes), f"with {runtime} of the runtime")
    console.print(table)


def _signed_size(n_bytes: int) -> str:
    return size(n_bytes) if n_bytes >= 0 else f"-{size(-n_bytes)}"


def _show_origins(console: Console, price: StepPrice, device: str) -> None:
    table = FittedTable(
        "figure",
        Column("", justify="right"),
        "kind",
        Column("uncertainty", no_wrap=True),
        Column("source", overflow="fold"),
        box=box.SIMPLE_HEAD,
    )
    for figure in price.figures:
        origin = figure.origin
        table.add_row(figure.key, f"{figure.value:.4g}", origin.kind, origin.uncertainty or "–", origin.source)
    console.print(table)
    console.print(f"How they were derived: jetbed devices {shlex.quote(device)}", soft_wrap=True)


def _cells(band: Band, text: Any) -> tuple[str, str, str]:
    return text(band.value), text(band.low), text(band.high)


_OPTIMIZER_NOTES = {
    "adamw": "gradients and two moments",
    "adamw_8bit": "gradients and two moments of 8 bits",
    "sgd": "gradients",
}


def _seconds(seconds: float) -> str:
    return f"{_round(seconds * 1e3)} ms" if seconds < 1 else f"{_round(seconds)} s"


def _joules(joules: float) -> str:
    return f"{_round(joules)} J" if joules < 1e4 else f"{_round(joules / 1e3)} kJ"


def _flop(flop: float) -> str:
    return f"{_round(flop / 1e9)} GFLOP"


def _round(value: float) -> str:
    """Three digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"
