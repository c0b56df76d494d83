"""What ``jetbed price`` prints: what a local step would cost on a board, how sure that is, and why."""

import json
import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Column
from rich.text import Text

from device_profiles.catalog import ProfileError, load_profile, load_swap
from device_profiles.records import DeviceProfile, PowerMode
from emulator.errors import ConfigError, did_you_mean
from emulator.forms.lora import low_rank_adapters
from emulator.records import (
    ACTIVATION_BITS,
    BasePrecision,
    Compression,
    Encoding,
    EncodingKind,
    LocalOptimizer,
    MemorySavers,
    Work,
    WorkKind,
)
from emulator.report.terminal.console import FittedTable, terminal
from emulator.report.terminal.units import size
from emulator.shapes.catalog import causal_spec, encoder_decoder_spec, is_encoder_decoder, model_spec
from emulator.shapes.encoder_decoder import EncoderDecoderSpec
from emulator.shapes.spec import ModelSpec
from emulator.world.price.price_bands import Band, StepPrice, price_step

TARGET_SETS: Mapping[str, tuple[str, ...]] = {"qv": ("query", "value")}
"""Short names for sets of targets, beside ``all``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceRequest:
    """What is to be priced, as the command line has it; None takes a default that depends on the rest."""

    device: str
    mode: str | None
    model: str
    depth: int | None
    rank: int
    targets: str
    batch: int
    seq: int
    precision: str
    quantized_layers: int
    activation_bits: int
    width: float
    cut: int | None
    dropout: bool
    full_finetune: bool
    inference: bool
    base_precision: BasePrecision = "float32"
    checkpointing: bool = False
    accumulation_steps: int = 1
    optimizer: Literal["adamw", "adamw_8bit", "sgd"] = "adamw"
    response: int | None = None
    upload_compression: EncodingKind = "none"
    download_compression: EncodingKind = "none"
    topk_fraction: float = 0.01
    desktop: bool = False
    swap: str | None = None


def show_price(request: PriceRequest, as_json: bool) -> None:
    """Print the price of one local step.

    Raises:
        ConfigError: there is no such device, mode, model or target, or a number is not possible.
    """
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


def priced(request: PriceRequest) -> StepPrice:
    """The price that is asked for; errors as for :func:`show_price`."""
    try:
        profile = load_profile(request.device)
    except ProfileError as error:
        raise ConfigError(str(error)) from None
    profile = _with_memory(profile, request)
    mode = power_mode(profile, request.mode)
    _at_least("--seq", request.seq, 1)
    model = _model(request)
    work = _OF_FAMILY[model.family].work(request, model)
    return price_step(
        profile,
        mode,
        model,
        work,
        request.precision,
        dropout=request.dropout,
        optimizer=LocalOptimizer(name=request.optimizer),
        savers=MemorySavers(
            base_precision=request.base_precision,
            checkpointing=request.checkpointing,
            accumulation_steps=request.accumulation_steps,
        ),
        compression=_compression(request),
    )


def _compression(request: PriceRequest) -> Compression:
    if not 0 < request.topk_fraction <= 0.5:
        raise ConfigError(f"--topk-fraction must be above 0 and at most 0.5, got {request.topk_fraction!r}")
    upload = Encoding(kind=request.upload_compression, topk_fraction=request.topk_fraction)
    return Compression(upload=upload, download=Encoding(kind=request.download_compression))


def _with_memory(profile: DeviceProfile, request: PriceRequest) -> DeviceProfile:
    """The board with desktop and swap, where they are asked for."""
    try:
        profile = profile.with_desktop() if request.desktop else profile
        return replace(profile, swap=None if request.swap is None else load_swap(request.swap))
    except ProfileError as error:
        raise ConfigError(f"--swap: {error}") from None
    except ValueError as error:
        raise ConfigError(f"--desktop: {error}; leave it out") from None


def _model(request: PriceRequest) -> ModelSpec:
    """A classifier, or where it is said how many tokens it learns, a language model, be it of one stack or of two."""
    if is_encoder_decoder(request.model):
        if request.response is None:
            raise ConfigError(
                f"{request.model} is an encoder-decoder, of which --seq is the length of a prompt; give --response, "
                "the tokens of what it says to that"
            )
        _at_least("--response", request.response, 1)
        return encoder_decoder_spec(request.model, seq_len=request.seq, response_len=request.response)
    if request.response is None:
        return model_spec(request.model, n_labels=2, seq_len=request.seq, head="output", seq_len_key="--seq")
    if not 1 <= request.response <= request.seq:
        raise ConfigError(
            f"--response must be between 1 and the {request.seq} tokens of an example, got {request.response!r}"
        )
    return causal_spec(request.model, seq_len=request.seq, response_len=request.response, seq_len_key="--seq")


def power_mode(profile: DeviceProfile, name: str | None) -> PowerMode:
    """The mode of that name or number; the board's default one without.

    Raises:
        ConfigError: the board has no such mode.
    """
    for mode in profile.power_modes:
        if (name or profile.default_mode) in (mode.name, str(mode.mode_id)):
            return mode
    names = profile.mode_names
    raise ConfigError(
        f"--mode: {profile.name} has no such power mode{did_you_mean(str(name), names)}; it has {', '.join(names)}; "
        f"got {name!r}"
    )


def _encoder_decoder_work(request: PriceRequest, model: ModelSpec) -> Work:
    for option, value, unused in (
        ("--cut", request.cut, None),
        ("--quantized-layers", request.quantized_layers, 0),
        ("--width", request.width, 1.0),
        ("--full-finetune", request.full_finetune, False),
    ):
        if value != unused:
            raise ConfigError(
                f"{model.name} is an encoder-decoder, of which devices train adapters alone; {option} is for models of "
                f"one stack of layers, got {value!r}"
            )
    return _transformer_work(request, model)


def _transformer_work(request: PriceRequest, model: ModelSpec) -> Work:
    if request.full_finetune and request.inference:
        raise ConfigError("--full-finetune and --inference exclude one another; give one of them")
    if request.cut is not None and not 1 <= request.cut <= model.n_layers:
        raise ConfigError(
            f"--cut must be between 1 and the {model.n_layers} layers of {model.name}, got {request.cut!r}"
        )
    n_layers = request.cut or model.n_layers
    depth = n_layers if request.depth is None else request.depth
    if not 0 <= depth <= n_layers:
        where = f"below the cut of {model.name}" if request.cut else f"of {model.name}"
        raise ConfigError(f"--depth must be between 0 and the {n_layers} layers {where}, got {depth!r}")
    if not 0 < request.width <= 1:
        raise ConfigError(f"--width must be a share above 0 and at most 1, got {request.width!r}")
    if not 0 <= request.quantized_layers <= depth:
        raise ConfigError(
            f"--quantized-layers must be between 0 and the depth of {depth}, got {request.quantized_layers!r}"
        )
    if request.activation_bits not in ACTIVATION_BITS:
        raise ConfigError(f"--activation-bits must be 4 or 8, got {request.activation_bits!r}")
    if request.checkpointing and request.quantized_layers:
        raise ConfigError(
            "--checkpointing keeps no activations within a layer that could be quantized; leave it out, or "
            f"--quantized-layers, got {request.quantized_layers!r}"
        )
    _at_least("--accumulation-steps", request.accumulation_steps, 1)
    _at_least("--rank", request.rank, 1)
    _at_least("--batch", request.batch, 1)
    kind = WorkKind.ADAPTERS
    if request.full_finetune or request.inference:
        kind = WorkKind.WEIGHTS if request.full_finetune else WorkKind.INFERENCE
    targets = _targets(request.targets, model)
    rank = 0 if kind is WorkKind.WEIGHTS else request.rank
    return Work(
        n_steps=1,
        batch_size=request.batch,
        seq_len=request.seq,
        forward_layers=n_layers,
        backward_layers=0 if kind is WorkKind.INFERENCE else depth,
        adapters=low_rank_adapters(model, targets, (0,) * (n_layers - depth) + (rank,) * depth, request.width),
        quantized_layers=request.quantized_layers,
        activation_bits=request.activation_bits,
        width_fraction=request.width,
        kind=kind,
    )


def _convnet_work(request: PriceRequest, model: ModelSpec) -> Work:
    """Training of what lies below the cut, all that devices compute of a convnet."""
    n_bottom = model.n_bottom_layers
    for option, value, unused in (
        ("--depth", request.depth, None),
        ("--quantized-layers", request.quantized_layers, 0),
        ("--width", request.width, 1.0),
        ("--cut", request.cut, None),
        ("--dropout", request.dropout, False),
        ("--base-precision", request.base_precision, "float32"),
        ("--checkpointing", request.checkpointing, False),
        ("--accumulation-steps", request.accumulation_steps, 1),
        ("--optimizer", request.optimizer, "adamw"),
    ):
        if value != unused:
            raise ConfigError(
                f"{model.name} is a convnet, of which devices train the {n_bottom} layers below its "
                f"cut; {option} is for transformers, got {value!r}"
            )
    _at_least("--batch", request.batch, 1)
    return Work(
        n_steps=1,
        batch_size=request.batch,
        seq_len=model.seq_len,
        forward_layers=n_bottom,
        backward_layers=0 if request.inference else n_bottom,
        kind=WorkKind.INFERENCE if request.inference else WorkKind.WEIGHTS,
    )


def _targets(text: str, model: ModelSpec) -> tuple[str, ...]:
    if text == "all":
        return model.matrices
    names = model.stored(TARGET_SETS.get(text) or tuple(name.strip() for name in text.split(",")))
    for name in names:
        if name not in model.matrices:
            raise ConfigError(
                f"--targets takes qv, all, or names of {model.name}'s matrices{did_you_mean(name, model.matrices)}, "
                f"separated by commas: {', '.join(model.matrices)}; got {name!r}"
            )
    return tuple(name for name in model.matrices if name in names)


def _at_least(option: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{option} must be at least {least}, got {value!r}")


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
    console.print(f"one local step of {price.model.name}, batch {_OF_FAMILY[price.model.family].heading(price)}")


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


@dataclass(frozen=True, slots=True)
class _OfFamily:
    """What depends on the family of the model: the work that options ask for, and how it is told."""

    work: Callable[[PriceRequest, ModelSpec], Work]
    heading: Callable[[StepPrice], str]


_OF_FAMILY: Mapping[str, _OfFamily] = {
    "transformer": _OfFamily(_transformer_work, _transformer_heading),
    "encoder-decoder": _OfFamily(_encoder_decoder_work, _transformer_heading),
    "convnet": _OfFamily(_convnet_work, _convnet_heading),
}


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
