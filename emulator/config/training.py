"""``[training]`` and ``[evaluation]``: what is computed on devices and on the server."""

from typing import Annotated, Literal

from pydantic import Field

from emulator.config.section import Count, ProperFraction, Section


class TrainingConfig(Section):
    """Local training on the devices, and the numeric settings that may change the last bits of a result."""

    enabled: bool = True
    """Whether models are trained at all; false emulates time, bytes, joules and memory alone."""
    local_steps: Count = 4
    """Optimizer steps of a device per (inner) round."""
    batch_size: Count = 8
    """Examples per local step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """AdamW's learning rate for adapters; that of SGD where a convnet is trained whole, for which 0.1 is usual."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled weight decay."""
    dropout: bool = False
    """Whether the model's own dropout is active in training."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic in which the models are really trained here."""
    devices_stacked: Literal["auto"] | Count = "auto"
    """How many devices are trained in one forward and backward pass; auto: on a CPU up to 16 where the model is thin,
    fewer where a layer fills a core by itself, on a GPU all that fit. It follows from model and batch size alone."""
    threads_per_host: Annotated[int, Field(gt=0, le=1024)] = 1
    """Threads of a device host."""
    prefix_cache_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20
    """Memory of a host for what the layers below the lowest adapter give, computed once per example; 0 turns it off."""


class EvaluationConfig(Section):
    """Evaluation of the server state on held-out data."""

    every_rounds: Count = 1
    """Evaluate every so many rounds, and after the last."""
    batch_size: Count = 128
    """Examples per forward pass."""
    device_fraction: ProperFraction | None = None
    """Share of each device's examples that it holds out and never trains on; the server's model is then evaluated on
    those of every device by itself, too (own_score and own_loss)."""
