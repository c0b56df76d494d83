"""What the process of a step holds of tensors, as the allocator of its board places them."""

from collections.abc import Mapping

from device_profiles.records import DeviceProfile
from emulator.records import ADAMW, NO_SAVERS, LocalOptimizer, MemorySavers, Work
from emulator.shapes.convnet import ConvNetSpec
from emulator.shapes.encoder_decoder import EncoderDecoderSpec
from emulator.shapes.spec import ModelSpec
from emulator.world.price.allocator import Allocator, CachingAllocator, GlibcAllocator, replay
from emulator.world.price.layers import Layers
from emulator.world.price.step import Attention
from emulator.world.price.step_trace import step_events

ALLOCATORS: Mapping[str, type[Allocator]] = {"glibc": GlibcAllocator, "pytorch_cuda": CachingAllocator}
"""By the name that a profile has for it."""


def held_bytes_of(
    profile: DeviceProfile,
    model: ModelSpec,
    work: Work,
    precision: str = "fp32",
    *,
    attention: Attention = "eager",
    dropout: bool = False,
    optimizer: LocalOptimizer = ADAMW,
    savers: MemorySavers = NO_SAVERS,
) -> int | None:
    """What the allocator of a board holds for a training process, of tensors and between them.

    None where the profile names no allocator, or the step cannot be replayed (see :func:`is_replayed`).
    """
    if profile.allocator is None or dropout or not is_replayed(model, work, optimizer, savers):
        return None
    return replayed_bytes(model, work, precision, profile.allocator, attention=attention)


def is_replayed(model: ModelSpec, work: Work, optimizer: LocalOptimizer, savers: MemorySavers) -> bool:
    """Whether the tensors of such a step can be written down: a transformer's with AdamW and nothing that saves memory.

    Adapters lie beside matrices, and there is one stack of layers.
    """
    is_known = not isinstance(model, ConvNetSpec | EncoderDecoderSpec)
    is_plain = is_known and savers == NO_SAVERS and work.quantized_layers == 0
    return is_plain and optimizer == ADAMW and set(work.adapters.places) <= set(model.matrices)


def replayed_bytes(
    model: ModelSpec, work: Work, precision: str, allocator: str, *, attention: Attention = "eager"
) -> int:
    """The most that one of :data:`ALLOCATORS` holds for the weights and steps of ``work``."""
    holder = ALLOCATORS[allocator]()
    replay(step_events(Layers(model, work), precision, attention), holder)
    return holder.peak_bytes
