"""What the process of a step holds: the runtime's own memory, and its tensors as the allocator places them."""

from collections.abc import Mapping
from dataclasses import dataclass

from device_profiles.records import DeviceProfile
from emulator.records import ADAMW, NO_SAVERS, LocalOptimizer, MemorySavers, Work
from emulator.shapes.convnet import ConvNetSpec
from emulator.shapes.spec import ModelSpec
from emulator.world.price.allocator import Allocator, CachingAllocator, GlibcAllocator, replay
from emulator.world.price.layers import Layers
from emulator.world.price.step import Attention
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_trace import step_events

ALLOCATORS: Mapping[str, type[Allocator]] = {"glibc": GlibcAllocator, "pytorch_cuda": CachingAllocator}
"""By the name that a profile has for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessMemory:
    """What a process holds at its peak: before any model (``runtime_bytes``), and of tensors with what lies between."""

    runtime_bytes: int
    held_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.runtime_bytes + self.held_bytes


def process_memory(
    profile: DeviceProfile,
    model: ModelSpec,
    work: Work,
    precision: str = "fp32",
    *,
    attention: Attention = "eager",
    optimizer: LocalOptimizer = ADAMW,
    savers: MemorySavers = NO_SAVERS,
) -> ProcessMemory | None:
    """The memory of a training process on a board; None where its profile does not say what the runtime takes.

    Where the profile names no allocator, or the step is of a kind that cannot be replayed (see
    :func:`is_replayed`), the tensors are those of :class:`~emulator.world.price.step.MemoryUse`, with its share.
    """
    if profile.runtime_memory_bytes is None:
        return None
    if profile.allocator and is_replayed(model, work, optimizer, savers):
        held_bytes = replayed_bytes(model, work, precision, profile.allocator, attention=attention)
    else:
        held_bytes = step_of(model, work, precision, optimizer, savers).memory(attention=attention).total_bytes
    return ProcessMemory(runtime_bytes=profile.runtime_memory_bytes, held_bytes=held_bytes)


def is_replayed(model: ModelSpec, work: Work, optimizer: LocalOptimizer, savers: MemorySavers) -> bool:
    """Whether the tensors of such a step can be written down: a transformer's with AdamW and nothing that saves memory.

    Adapters lie beside matrices.
    """
    is_plain = not isinstance(model, ConvNetSpec) and savers == NO_SAVERS and work.quantized_layers == 0
    return is_plain and optimizer == ADAMW and set(work.adapters.places) <= set(model.matrices)


def replayed_bytes(
    model: ModelSpec, work: Work, precision: str, allocator: str, *, attention: Attention = "eager"
) -> int:
    """The most that one of :data:`ALLOCATORS` holds for the weights and steps of ``work``."""
    holder = ALLOCATORS[allocator]()
    replay(step_events(Layers(model, work), precision, attention), holder)
    return holder.peak_bytes
