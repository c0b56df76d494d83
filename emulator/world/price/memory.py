"""What a local step needs at its peak: what the allocator of its board holds for weights, activations and the rest."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from device_profiles.records import AllocatorName
from emulator.records import ADAMW, NO_SAVERS, LocalOptimizer, MemorySavers, Work
from emulator.shapes.convnet import ConvNetSpec
from emulator.shapes.spec import ModelSpec
from emulator.world.price.allocator import Allocator, CachingAllocator, Event, GlibcAllocator, replay
from emulator.world.price.convnet import ConvNetStep
from emulator.world.price.convnet_trace import convnet_events
from emulator.world.price.layers import Layers
from emulator.world.price.step import FLOAT_BYTES, Attention, MemoryUse
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_trace import StepOptions, step_events

__all__ = ["ALLOCATORS", "AllocatorName", "peak_memory", "tensor_events"]

ALLOCATORS: Mapping[AllocatorName, type[Allocator]] = {"glibc": GlibcAllocator, "pytorch_cuda": CachingAllocator}
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

    ``allocator`` is the device's. For a policy that knows what its devices have, too: what it is told here is what the
    testbed goes by. A replay takes some milliseconds; the same step, however many of it, is replayed once.
    """
    options = StepOptions(precision=precision, attention=attention, dropout=dropout, optimizer=optimizer, savers=savers)
    return _peak_memory(model, replace(work, n_steps=1), allocator, options)


@lru_cache(maxsize=_N_REMEMBERED)
def _peak_memory(model: ModelSpec, work: Work, allocator: AllocatorName, options: StepOptions) -> MemoryUse:
    step = step_of(model, work, options.precision, options.optimizer, options.savers)
    use = step.memory(attention=options.attention, dropout=options.dropout)
    holder = ALLOCATORS[allocator]()
    replay(tensor_events(model, work, options), holder)
    loading_bytes = _loading_bytes(model, use) if allocator == "pytorch_cuda" else 0
    return replace(use, allocator_bytes=max(holder.peak_bytes, loading_bytes) - use.total_bytes)


def _loading_bytes(model: ModelSpec, use: MemoryUse) -> int:
    """What a board whose CPU and GPU share their memory holds while weights are copied from the one to the other.

    ``Module.to`` moves one tensor after another and lets go of the host's (``torch/nn/modules/module.py``,
    ``Module._apply``); the file is mapped, so that its pages count as free. At the end all weights lie on the GPU, and
    the largest tensor on the host as well: the embeddings, or a layer of a convnet. Whoever reads a file whole before
    needs its size once more. Page-locked buffers of batches are left out: a batch is some kilobytes of numbers.
    """
    layers = [layer.n_parameters for layer in model.layers] if isinstance(model, ConvNetSpec) else []
    return use.weights_bytes + FLOAT_BYTES * max([model.n_embedding_parameters, *layers])


def tensor_events(model: ModelSpec, work: Work, options: StepOptions) -> list[Event]:
    """What comes and goes in a few steps of ``work``."""
    if isinstance(model, ConvNetSpec):
        return convnet_events(ConvNetStep(model, work, options.precision))
    return step_events(Layers(model, work), options)
