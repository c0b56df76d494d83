"""The numeric settings of a run: all that may move the last bits of a result, fixed by the config alone. No torch."""

from dataclasses import dataclass
from typing import Literal

from emulator.records import ADAMW, NO_COMPRESSION, Compression, LocalOptimizer

Precision = Literal["float32", "tf32", "bfloat16"]

NO_TF32 = (
    "training.precision = 'tf32' is arithmetic of GPUs, and this run trains on the CPU (backend.gpus_per_host = 0); "
    "give float32 or bfloat16"
)

DEVICES_STACKED = 16
"""How many devices share a pass at most unless a config says otherwise. On a CPU core 8 to 20 are equally fast each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NumericSettings:
    """How hosts compute.

    Attributes:
        run_seed: the run's seed; batches and dropout are drawn from it.
        weight_decay: AdamW's decoupled weight decay; that of SGD is added to the gradient.
        optimizer: how devices change what they train.
        threads: torch threads of each host.
        precision: of the frozen weights and the activations; adapters, head, loss and optimizer stay in float32. With
            ``tf32`` all numbers are kept in float32, and a GPU multiplies them with 10 bits of their fractions.
        dropout: train with the model's own dropout instead of in evaluation mode.
        accumulation_steps: in how many passes the batch of a local step is computed.
        checkpointing: whether layers keep their input alone, and are computed again in the backward pass.
        compression: how payloads are encoded, which changes what devices begin with and what the server reads.
        devices_stacked: at most so many devices share a forward and backward pass.
        eval_shard_size: rows of held-out data whose sums are added up together.
        eval_batch_size: rows in one forward pass of an evaluation.
        prefix_cache_bytes: memory for hidden states below the lowest adapter, over all data; 0 turns reuse off.
        device: torch's name of where to compute, ``cpu`` or ``cuda``.
    """

    run_seed: int
    weight_decay: float
    optimizer: LocalOptimizer = ADAMW
    threads: int = 1
    precision: Precision = "float32"
    dropout: bool = False
    accumulation_steps: int = 1
    checkpointing: bool = False
    compression: Compression = NO_COMPRESSION
    devices_stacked: int = DEVICES_STACKED
    eval_shard_size: int = 256
    eval_batch_size: int = 128
    prefix_cache_bytes: int = 256 * 2**20
    device: str = "cpu"
