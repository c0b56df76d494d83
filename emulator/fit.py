"""Whether the policy, the model and the data of a run fit together, told before anything is loaded."""

from emulator.config import Config
from emulator.errors import ConfigError
from emulator.model_spec import ModelSpec
from emulator.network_catalog import BUILTIN_IMAGES, BUILTIN_NETWORK, PRICED_NETWORK, is_network, network_names
from emulator.policy import Policy
from emulator.policy_catalog import import_path, policy_class, policy_names

IMAGE_FILES = (".npz",)


def price_name(config: Config) -> str:
    """``model.price`` with ``auto`` resolved."""
    train = config.model.train
    if config.model.price != "auto":
        return config.model.price
    if is_network(train):
        return PRICED_NETWORK
    return "roberta-base" if train.startswith("builtin:") else "trained"


def check_fit(config: Config, policy: Policy) -> None:
    """Raise ConfigError if a network is to be trained on texts, priced as a transformer, or the other way round."""
    train, price, source = config.model.train, price_name(config), config.data.source
    is_trained = is_network(train)
    if is_trained and train != BUILTIN_NETWORK:
        raise ConfigError(
            f"model.train: {train} has shapes to be priced, but no weights to be trained; give {BUILTIN_NETWORK!r} with"
            f" model.price = {train!r}, got {train!r}"
        )
    if price != "trained" and is_network(price) != is_trained:
        allowed = f"one of {', '.join(network_names())}, or 'trained'" if is_trained else "a transformer, or 'trained'"
        raise ConfigError(
            f"model.price must be {allowed}, since {train} is {_kind(is_trained)}, got {config.model.price!r}"
        )
    has_images = source == BUILTIN_IMAGES or source.endswith(IMAGE_FILES)
    if config.training.enabled and has_images != is_trained:
        needed = f"images, {BUILTIN_IMAGES!r} or an npz file" if is_trained else "texts"
        raise ConfigError(
            f"data.source must hold {needed}, since model.train = {train!r} is {_kind(is_trained)}, got {source!r}"
        )
    family = "network" if is_trained else "transformer"
    if family not in policy.families:
        others = ", ".join(name for name in policy_names() if family in policy_class(name).families)
        raise ConfigError(
            f"policy {import_path(type(policy))} is for {' and '.join(sorted(policy.families))} models, and model.train"
            f" is {_kind(is_trained)}; choose another model, or one of the policies {others}"
        )


def check_layers(name: str, priced: ModelSpec, trained: ModelSpec) -> None:
    """Raise ConfigError if depth would not mean the same for both; networks have a cut of their own."""
    if trained.n_layers != priced.n_layers and trained.family == "transformer":
        raise ConfigError(
            f"model.price has {priced.n_layers} layers but the trained model has {trained.n_layers}; LoRA depth must"
            f" mean the same for both: choose one of {trained.n_layers} layers or model.price = 'trained', got {name!r}"
        )


def _kind(is_trained: bool) -> str:
    return "a network of convolutions" if is_trained else "a transformer"
