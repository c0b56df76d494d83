"""``[training]`` and ``[evaluation]``: what is computed on devices and on the server."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from emulator.config.section import Count, CountOrZero, Positive, ProperFraction, Section


class TrainingConfig(Section):
    """Local training on the devices, and the numeric settings that may change the last bits of a result."""

    enabled: bool = True
    """Whether models are trained at all; false emulates time, bytes, joules and memory alone."""
    local_steps: Count = 4
    """Optimizer steps of a device per (inner) round."""
    batch_size: Count = 8
    """Examples per local step."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """The learning rate for adapters, of AdamW unless training.optimizer says otherwise; that of SGD where a convnet is
    trained whole, for which 0.1 is usual."""
    warmup_rounds: CountOrZero = 0
    """Over so many rounds the learning rate that policies are given rises in equal steps to training.learning_rate,
    which it has in the last of them."""
    decay: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls behind the warm-up, round by round: not at all, on a line, or on half a cosine."""
    decay_rounds: Count | None = None
    """For linear and cosine: over how many rounds it falls; behind them it stays as it was in the last."""
    decay_floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """For linear and cosine: towards which share of training.learning_rate it falls; the last of the rounds is one step
    above it."""
    optimizer: Literal["adamw", "adamw_8bit", "sgd"] = "adamw"
    """What devices train adapters with; each begins anew in each round. adamw_8bit keeps its two moments in eight bits
    (Dettmers et al. 2022)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """For sgd: share of the former steps that is kept."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled weight decay; that of SGD is added to the gradient."""
    max_gradient_norm: Positive | None = None
    """Gradients of a device whose norm, over all that it trains, is larger are scaled down to it; where a model is cut,
    what the server trains of it has a norm of its own. Without it, they are left as they are."""
    proximal_mu: Annotated[float, Field(ge=0)] = 0.0
    """FedProx's mu: to the loss of a device is added half of mu times the squared distance from what it received
    (Li et al. 2020). Reported losses are without it."""
    accumulation_steps: Annotated[int, Field(gt=0, le=1024)] = 1
    """In how many passes, one after another, the batch of a local step is computed; their gradients add up to those of
    the whole batch, and each needs the memory of its own examples alone."""
    checkpointing: bool = False
    """Whether devices keep the inputs of the trained layers alone and compute each layer once more in the backward pass
    (gradient checkpointing). It changes time and memory, not what is learnt."""
    dropout: bool = False
    """Whether the model's own dropout is active in training."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Arithmetic in which the models are really trained here. tf32 is for GPUs alone: float32 in memory, of which a GPU
    multiplies the first 10 bits of the fractions."""
    devices_stacked: Literal["auto"] | Count = "auto"
    """How many devices are trained in one forward and backward pass; auto: on a CPU up to 16 where the model is thin,
    fewer where a layer fills a core by itself, on a GPU all that fit. It follows from model and batch size alone."""
    threads_per_host: Annotated[int, Field(gt=0, le=1024)] = 1
    """Threads of a device host."""
    prefix_cache_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20
    """Memory of a host for what the layers below the lowest adapter give, computed once per example; 0 turns it off."""

    @model_validator(mode="after")
    def _belong_together(self) -> "TrainingConfig":
        if (self.decay == "constant") != (self.decay_rounds is None):
            need = "must be given where" if self.decay_rounds is None else "is for linear and cosine;"
            raise ValueError(
                f"training.decay_rounds {need} training.decay is {self.decay!r}, got {self.decay_rounds!r}"
            )
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(
                f"training.momentum is for training.optimizer = 'sgd'; it is {self.optimizer!r}, got {self.momentum!r}"
            )
        return self


class EvaluationConfig(Section):
    """Evaluation of the server state on held-out data."""

    every_rounds: Count = 1
    """Evaluate every so many rounds, and after the last."""
    batch_size: Count = 128
    """Examples per forward pass."""
    device_fraction: ProperFraction | None = None
    """Share of each device's examples that it holds out and never trains on; the server's model is then evaluated on
    those of every device by itself, too (own_score and own_loss)."""
