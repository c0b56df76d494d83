"""How many devices share a pass where ``training.devices_stacked`` is ``auto``. No torch.

The number moves the last bits of what is trained, so it follows from the model and the configuration alone, never from
the machine: what it weighs up are round numbers that hold for any core, and for any card of 24 GB or more.
"""

from emulator.config import Config
from emulator.learning.settings import DEVICES_STACKED
from emulator.running.objectives import trained_spec
from emulator.shapes.names import ModelName
from emulator.shapes.spec import ModelSpec

CORE_CACHE_BYTES = 2 * 2**20
"""Hidden states of a stack, in float32, up to which a further device makes the others cheaper on a CPU core.

About the second-level cache of a server's core. Beyond it a layer's matrix products fill the core by themselves, and a
larger stack only leaves fewer stacks to be dealt out. ``benchmarks/README.md`` has what was measured.
"""
GPU_BYTES = 16 * 2**30
"""Activations of a stack on a GPU: all that fit beside the model on a card of 24 GB."""
ACTIVATION_BYTES = 34
"""Of a layer per token and hidden unit at 2 bytes a number, kept for the backward pass, without attention scores, which
fused attention never writes (Korthikanti et al. 2022, arXiv 2205.05198, section 4.1)."""
MOST_ON_A_GPU = 1024
"""Beyond it one stack takes longer to put together than to compute."""


def devices_stacked(config: Config, on_gpu: bool) -> int:
    """How many devices share a pass: what the configuration says, or what suits its model.

    Raises:
        ConfigError: there is no such model.
    """
    training = config.training
    if training.devices_stacked != "auto":
        return training.devices_stacked
    if not training.enabled or ModelName(config.model.train).is_convnet:
        return DEVICES_STACKED
    model = trained_spec(config)
    if on_gpu:
        return all_that_fit(model, training.batch_size, 2 if training.precision == "bfloat16" else 4)
    return enough_for_a_core(model, training.batch_size)


def enough_for_a_core(model: ModelSpec, batch_size: int) -> int:
    """So many devices that their hidden states fill a core's cache, from 1 to :data:`DEVICES_STACKED`."""
    device_bytes = 4 * batch_size * model.seq_len * model.hidden_size
    return min(max(1, CORE_CACHE_BYTES // device_bytes), DEVICES_STACKED)


def all_that_fit(model: ModelSpec, batch_size: int, number_bytes: int) -> int:
    """So many devices that what the backward pass needs fits on a GPU; numbers have ``number_bytes`` each."""
    values = batch_size * model.seq_len * model.hidden_size * model.n_layers
    device_bytes = ACTIVATION_BYTES * number_bytes // 2 * values
    return min(max(1, GPU_BYTES // device_bytes), MOST_ON_A_GPU)
