"""What ``jetbed price`` is asked for, and the price of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

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
from emulator.shapes.catalog import causal_spec, encoder_decoder_spec, is_encoder_decoder, model_spec
from emulator.shapes.spec import ModelSpec
from emulator.world.price.price_bands import StepPrice, price_step

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


def priced(request: PriceRequest) -> StepPrice:
    """The price that is asked for.

    Raises:
        ConfigError: there is no such device, mode, model or target, or a number is not possible.
    """
    try:
        profile = load_profile(request.device)
    except ProfileError as error:
        raise ConfigError(str(error)) from None
    profile = _with_memory(profile, request)
    mode = power_mode(profile, request.mode)
    _at_least("--seq", request.seq, 1)
    model = _model(request)
    work = _WORK[model.family](request, model)
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


_WORK: Mapping[str, Callable[[PriceRequest, ModelSpec], Work]] = {
    "transformer": _transformer_work,
    "encoder-decoder": _encoder_decoder_work,
    "convnet": _convnet_work,
}
"""By the family of the model."""
