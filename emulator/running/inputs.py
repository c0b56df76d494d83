"""What a run is given: whether policy, model and data fit together, and when its devices can be reached.

All is told before anything is loaded.
"""

import hashlib
from dataclasses import replace

from device_profiles.text_files import user_path
from emulator.config import AvailabilityConfig, Config
from emulator.errors import ConfigError
from emulator.forms.base import AdapterForm
from emulator.policy.base import Policy
from emulator.policy.catalog import import_path, policy_class, policy_names
from emulator.running.objectives import run_objective
from emulator.running.traced_availability import WHERE, traced
from emulator.seeds import Seeds
from emulator.shapes.convnet_catalog import BUILTIN_CONVNET, BUILTIN_IMAGES, PRICED_CONVNET, convnet_names
from emulator.shapes.encoder_decoder import EncoderDecoderSpec
from emulator.shapes.names import ModelKind, ModelName
from emulator.shapes.spec import ModelSpec
from emulator.shapes.transformer_catalog import BUILTIN_DECODER, PRICED_DECODER, PRICED_TRANSFORMER
from emulator.world.availability import Always, Availability, OnOff
from emulator.world.battery import Battery, Charger

ENCODER_DECODER = "encoder-decoder"
IMAGE_FILES = (".npz",)


def price_name(config: Config) -> str:
    """``model.price`` with ``auto`` resolved."""
    if config.model.price != "auto":
        return config.model.price
    trained = ModelName(config.model.train)
    if trained.is_convnet:
        return PRICED_CONVNET
    if trained.text == BUILTIN_DECODER:
        return PRICED_DECODER
    return PRICED_TRANSFORMER if trained.is_builtin else "trained"


def check_fit(config: Config, policy: Policy) -> None:
    """Raise ConfigError if a convnet is to be trained on texts, priced as a transformer, or the other way round."""
    trained, price, source = ModelName(config.model.train), price_name(config), config.data.source
    train, family = trained.text, trained.family
    if trained.kind is ModelKind.PRICED_CONVNET:
        raise ConfigError(
            f"model.train: {train} has shapes to be priced, but no weights to be trained; give {BUILTIN_CONVNET!r} with"
            f" model.price = {train!r}, got {train!r}"
        )
    if trained.is_convnet and not run_objective(config).has_images:
        raise ConfigError(
            f"model.train: {train} is a convnet, which learns labels of images alone; for task.kind = "
            f"{config.task.kind!r} give a transformer"
        )
    if price != "trained" and ModelName(price).family != family:
        priced = f"one of {', '.join(convnet_names())}" if trained.is_convnet else "a transformer"
        raise ConfigError(
            f"model.price must be {priced}, or 'trained', since {train} is a {family}, got {config.model.price!r}"
        )
    has_images = source == BUILTIN_IMAGES or source.endswith(IMAGE_FILES)
    if config.training.enabled and has_images != trained.is_convnet:
        needed = f"images, {BUILTIN_IMAGES!r} or an npz file" if trained.is_convnet else "texts"
        raise ConfigError(
            f"data.source must hold {needed}, since model.train = {train!r} is a {family}, got {source!r}"
        )
    asked = run_objective(config).family or family
    if asked == ENCODER_DECODER and trained.is_builtin:
        raise ConfigError(
            f"model.train must be an encoder-decoder for task.kind = {config.task.kind!r}, and none is built in; give "
            f"the directory or the hub id of a T5, got {train!r}"
        )
    if asked == ENCODER_DECODER and config.model.depth_map:
        raise ConfigError(
            "model.depth_map: an encoder-decoder has layers of two kinds, and the priced model must have as many of "
            f"either as the trained one; leave it out, got {config.model.depth_map!r}"
        )
    if asked not in policy.families:
        others = ", ".join(name for name in policy_names() if asked in policy_class(name).families)
        raise ConfigError(
            f"policy {import_path(type(policy))} is for {' and '.join(sorted(policy.families))} models, and model.train"
            f" is {_a(asked)}; choose another model, or one of the policies {others}"
        )


def _a(family: str) -> str:
    return f"an {family}" if family == ENCODER_DECODER else f"a {family}"


def with_depth_of(trained: ModelSpec, priced: ModelSpec, config: Config) -> ModelSpec:
    """``priced`` with the layers of ``trained`` to count depth by; convnets have a cut of their own.

    Raises:
        ConfigError: depth would not mean the same for both, or the priced one is the shallower.
    """
    n_trained, n_priced, name = trained.n_layers, priced.n_layers, priced.name
    if isinstance(trained, EncoderDecoderSpec) and isinstance(priced, EncoderDecoderSpec):
        return _with_stacks_of(trained, priced)
    if n_trained == n_priced or trained.family != "transformer":
        return priced
    if n_priced < n_trained and config.model.depth_map:
        raise ConfigError(
            f"model.depth_map: model.price must have at least the {n_trained} layers of the trained model; choose a "
            f"deeper one, or model.price = 'trained', got {name!r} with {n_priced}"
        )
    if config.model.depth_map:
        return replace(priced, n_layers=n_trained, deeper_layers=n_priced)
    advice = ", or say how depth maps (model.depth_map = 'proportional')" if n_priced > n_trained else ""
    raise ConfigError(
        f"model.price has {n_priced} layers but the trained model has {n_trained}; LoRA depth must mean the same for "
        f"both: choose one of {n_trained} layers or model.price = 'trained'{advice}, got {name!r}"
    )


def _with_stacks_of(trained: EncoderDecoderSpec, priced: EncoderDecoderSpec) -> EncoderDecoderSpec:
    stacks = [(each.n_encoder_layers, each.n_decoder_layers) for each in (trained, priced)]
    if stacks[0] != stacks[1]:
        raise ConfigError(
            f"model.price has {stacks[1][0]} + {stacks[1][1]} layers (encoder + decoder) but the trained model has "
            f"{stacks[0][0]} + {stacks[0][1]}; LoRA depth must mean the same for both: choose one of as many or "
            f"model.price = 'trained', got {priced.name!r}"
        )
    return priced


def check_depth_map(config: Config, policy: Policy, form: AdapterForm) -> None:
    """Raise ConfigError if ``model.depth_map`` is asked of a form whose costs cannot be those of a deeper model."""
    if config.model.depth_map and config.training.enabled and not form.maps_depth:
        raise ConfigError(
            f"model.depth_map: policy {import_path(type(policy))} has adapters, {type(form).__name__}, whose costs are "
            "known for a priced model of as many layers alone; leave it out, or choose another policy, got "
            f"{config.model.depth_map!r}"
        )


KEYS = {"always": (), "on_off": ("mean_on_s", "mean_off_s"), "trace": ("trace",), "battery": ("battery_capacity_j",)}
"""For each kind the keys that it needs; the others do not take them."""
OPTIONAL_KEYS = {
    "battery": (
        "battery_start_fraction",
        "battery_least_fraction",
        "charge_w",
        "plugged_from_s",
        "plugged_until_s",
        "plugged_period_s",
    ),
    "trace": ("origin_s", "trace_offset_s", "trace_loop", "trace_period_s", "trace_time_scale"),
}
"""For each kind the keys that it takes beside them."""
LEAST_CAPACITY_J = 1e3
"""With less, a weak charger would bring devices on and off again many times a second."""
LEAST_MEAN_S = 1e-3
"""Every span is drawn by itself, so that shorter ones would keep a round from ending."""


def availability_of(config: AvailabilityConfig, n_devices: int, seeds: Seeds) -> Availability:
    """When the devices of a run can be reached.

    Raises:
        ConfigError: a key that the kind needs is missing, one that it does not take is given, or the trace is wrong.
    """
    for kind, names in KEYS.items():
        for name in names:
            given = getattr(config, name)
            if kind == config.kind and given is None:
                raise ConfigError(f"{WHERE}.{name} must be given where {WHERE}.kind is {kind!r}")
            if kind != config.kind and given is not None:
                raise ConfigError(
                    f"{WHERE}.{name} is for {WHERE}.kind = {kind!r}; the kind is {config.kind!r}, got {given!r}"
                )
            if kind == config.kind == "on_off" and given < LEAST_MEAN_S:
                raise ConfigError(f"{WHERE}.{name} must be at least {LEAST_MEAN_S} seconds, got {given!r}")
    for kind, names in OPTIONAL_KEYS.items():
        for name in names:
            given, default = getattr(config, name), type(config).model_fields[name].default
            if kind != config.kind and given != default:
                raise ConfigError(
                    f"{WHERE}.{name} is for {WHERE}.kind = {kind!r}; the kind is {config.kind!r}, got {given!r}"
                )
    # Of all keys, those of its kind are given, and no others.
    if config.mean_on_s and config.mean_off_s:
        return OnOff(n_devices, config.mean_on_s, config.mean_off_s, seeds)
    if config.trace:
        try:
            return traced(config, user_path(config.trace), n_devices)
        except ValueError as error:
            raise ConfigError(f"{WHERE}.trace: {error}") from None
    if config.battery_capacity_j:
        return _battery(config, config.battery_capacity_j, n_devices)
    return Always(n_devices)


def _battery(config: AvailabilityConfig, capacity_j: float, n_devices: int) -> Battery:
    if capacity_j < LEAST_CAPACITY_J:
        raise ConfigError(
            f"{WHERE}.battery_capacity_j must be at least {LEAST_CAPACITY_J:g} joules, got {capacity_j!r}"
        )
    period_s = config.plugged_period_s
    if config.plugged_from_s >= period_s or config.plugged_until_s > period_s:
        raise ConfigError(
            f"{WHERE}.plugged_from_s and plugged_until_s must lie within a period of plugged_period_s = {period_s:g} s,"
            f" got {config.plugged_from_s!r} and {config.plugged_until_s!r}"
        )
    charger = Charger(
        watts=config.charge_w,
        start_s=config.plugged_from_s,
        end_s=config.plugged_until_s,
        period_s=period_s,
    )
    return Battery(
        n_devices,
        capacity_j,
        charger,
        start_fraction=config.battery_start_fraction,
        least_fraction=config.battery_least_fraction,
    )


def trace_sha256(config: AvailabilityConfig) -> str | None:
    """The digest of the trace's file, in hexadecimal; None where there is none."""
    return hashlib.sha256(user_path(config.trace).read_bytes()).hexdigest() if config.trace else None
