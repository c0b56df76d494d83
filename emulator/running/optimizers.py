"""What a run asks of optimizers, on devices and on the server, and of savers of memory, and who takes it."""

from emulator.algorithms.server_optimizer import ServerOptimizer
from emulator.config import Config
from emulator.errors import ConfigError
from emulator.forms.base import AdapterForm
from emulator.policy.base import Policy
from emulator.policy.catalog import import_path, policy_class, policy_names
from emulator.policy.checked import is_mean
from emulator.records import LocalOptimizer, MemorySavers, Schedule
from emulator.shapes.names import ModelName


def local_optimizer(config: Config) -> LocalOptimizer:
    """What devices train adapters with."""
    training = config.training
    return LocalOptimizer(
        name=training.optimizer,
        momentum=training.momentum,
        max_gradient_norm=training.max_gradient_norm,
        proximal_mu=training.proximal_mu,
    )


def savers_of(config: Config) -> MemorySavers:
    """What devices do to need less memory."""
    return MemorySavers(
        base_precision=config.model.base_precision,
        checkpointing=config.training.checkpointing,
        accumulation_steps=config.training.accumulation_steps,
    )


def schedule_of(config: Config) -> Schedule:
    """How the learning rate follows the rounds."""
    training = config.training
    return Schedule(
        warmup_rounds=training.warmup_rounds,
        decay=training.decay,
        decay_rounds=training.decay_rounds or 1,
        floor=training.decay_floor,
    )


def server_optimizer_of(config: Config) -> ServerOptimizer | None:
    """The server's own optimizer; None where the mean of the updates is the server state."""
    server = config.server
    if server.optimizer is None:
        return None
    return ServerOptimizer(
        name=server.optimizer,
        learning_rate=server.rate,
        momentum=server.momentum,
        decay=server.decay,
        adaptivity=server.adaptivity,
    )


def check_optimizers(config: Config, policy: Policy) -> None:
    """Raise ConfigError if policy or model do not take what the run asks of optimizers."""
    if config.server.optimizer and not is_mean(type(policy)):
        others = ", ".join(name for name in policy_names() if is_mean(policy_class(name)))
        raise ConfigError(
            f"server.optimizer steps to the mean of the updates, and policy {import_path(type(policy))} makes another "
            f"thing of them; leave it out, or choose one of the policies {others}, got {config.server.optimizer!r}"
        )
    training, model = config.training, config.model
    given = {
        "training.optimizer": (training.optimizer, training.optimizer != "adamw"),
        "training.max_gradient_norm": (training.max_gradient_norm, training.max_gradient_norm is not None),
        "training.proximal_mu": (training.proximal_mu, training.proximal_mu > 0),
        "training.accumulation_steps": (training.accumulation_steps, training.accumulation_steps > 1),
        "training.checkpointing": (training.checkpointing, training.checkpointing),
        "model.base_precision": (model.base_precision, model.base_precision != "float32"),
    }
    asked = next((key for key, (_, is_given) in given.items() if is_given), None)
    if asked and ModelName(model.train).is_convnet:
        raise ConfigError(
            f"{asked} is for transformers; model.train = {model.train!r} is a convnet, whose weights are trained by "
            f"plain SGD: leave it out, got {given[asked][0]!r}"
        )


def check_base_precision(config: Config, policy: Policy, form: AdapterForm) -> None:
    """Raise ConfigError if weights that are trained were to be stored in so few bits that no step could change them."""
    if form.holds_weights and config.model.base_precision in ("int8", "nf4"):
        raise ConfigError(
            f"model.base_precision: policy {import_path(type(policy))} trains the weights themselves, which cannot be"
            " stored in so few bits; give 'float32' or 'bfloat16', for what stays frozen, or a policy of adapters, got"
            f" {config.model.base_precision!r}"
        )
