"""What a local step needs at its peak: what the allocator of its board holds for weights, activations and the rest.

Loading has no peak of its own, on boards whose CPU and GPU share their memory neither. Weights are mapped from their
file, so that the host's pages of them count as free, and ``Module.to`` moves one tensor after another, in the order of
the layers, and lets go of the host's (``Module._apply`` in ``torch/nn/modules/module.py``): first the embeddings, which
are the largest. Whoever reads a file whole before that needs its size once more. Page-locked copies of batches are some
kilobytes of numbers.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from device_profiles.records import AllocatorName
from emulator.records import ADAMW, NO_SAVERS, LocalOptimizer, MemorySavers, TrainingDefaults, Work
from emulator.shapes.convnet import ConvNetSpec
from emulator.shapes.encoder_decoder import EncoderDecoderSpec
from emulator.shapes.spec import ModelSpec
from emulator.world.price.allocator import (
    Allocator,
    CachingAllocator,
    Event,
    GlibcAllocator,
    NewerGlibcAllocator,
    replay,
)
from emulator.world.price.convnet import ConvNetStep
from emulator.world.price.convnet_trace import convnet_events
from emulator.world.price.encoder_decoder import EncoderDecoderStep
from emulator.world.price.layers import Layers
from emulator.world.price.step import Attention, MemoryUse
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_trace import StepOptions, encoder_decoder_events, step_events

__all__ = ["ALLOCATORS", "AllocatorName", "needed_bytes", "peak_memory", "tensor_events"]

ALLOCATORS: Mapping[AllocatorName, type[Allocator]] = {
    "glibc": GlibcAllocator,
    "glibc_2_39": NewerGlibcAllocator,
    "pytorch_cuda": CachingAllocator,
}
"""By the name that a profile has for it."""

_N_REMEMBERED = 4096  # prices of steps, some kilobytes each: more than a run asks for


def peak_memory(
    model: ModelSpec,
    work: Work,
    precision: str,
    *,
    allocator: AllocatorName = "pytorch_cuda",
    attention: Attention = "eager",
    dropout: bool = False,
    optimizer: LocalOptimizer = ADAMW,
    savers: MemorySavers = NO_SAVERS,
) -> MemoryUse:
    """The memory that a step of ``work`` on the priced ``model`` needs; see :class:`~emulator.world.price.step.Step`.

    ``allocator`` is the device's. A replay takes some milliseconds; the same step is replayed once, however often asked
    for.
    """
    options = StepOptions(precision=precision, attention=attention, dropout=dropout, optimizer=optimizer, savers=savers)
    return _peak_memory(model, replace(work, n_steps=1), allocator, options)


def needed_bytes(model: ModelSpec, work: Work, training: TrainingDefaults, allocator: AllocatorName) -> int:
    """What ``work`` needs at its peak under the settings of a run.

    For a policy that knows what its devices have, too: what it is told here is what the testbed goes by.
    """
    return peak_memory(
        model,
        work,
        training.precision,
        allocator=allocator,
        dropout=training.dropout,
        optimizer=training.optimizer,
        savers=training.savers,
    ).total_bytes


@lru_cache(maxsize=_N_REMEMBERED)
def _peak_memory(model: ModelSpec, work: Work, allocator: AllocatorName, options: StepOptions) -> MemoryUse:
    step = step_of(model, work, options.precision, options.optimizer, options.savers)
    use = step.memory(attention=options.attention, dropout=options.dropout)
    holder = ALLOCATORS[allocator]()
    replay(tensor_events(model, work, options), holder)
    return replace(use, allocator_bytes=holder.peak_bytes - use.total_bytes)


def tensor_events(model: ModelSpec, work: Work, options: StepOptions) -> list[Event]:
    """What comes and goes in a few steps of ``work``."""
    if isinstance(model, ConvNetSpec):
        return convnet_events(ConvNetStep(model, work, options.precision))
    if isinstance(model, EncoderDecoderSpec):
        step = EncoderDecoderStep(model, work, options.precision, options.optimizer, options.savers)
        return encoder_decoder_events(step.encoder.layers, step.decoder.layers, step.between_bytes, options)
    return step_events(Layers(model, work), options)
