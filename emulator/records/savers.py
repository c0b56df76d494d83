"""How devices need less memory: frozen weights and moments in few bits, layers computed again, batches in parts."""

from dataclasses import dataclass
from typing import Literal

BasePrecision = Literal["float32", "bfloat16", "int8", "nf4"]
"""What frozen weights are stored in."""
NF4_BLOCK, SCALE_BLOCK = 64, 256
"""Neighbouring weights that share a scale in ``nf4``, and scales that share one of their own (QLoRA: Dettmers et al.
2023, arXiv 2305.14314, section 3)."""


MOMENT_BLOCK = 2048
"""Neighbouring moments of an optimizer that share a scale, where they have eight bits (Dettmers et al. 2022, arXiv
2110.02861, section 2.1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemorySavers:
    """What devices do to need less memory, beside adapters.

    Attributes:
        base_precision: what frozen weights are stored in. They are computed with in the arithmetic of the device, for
            which they are converted anew in each pass. In ``int8`` and ``nf4`` the matrices of the layers are stored in
            so few bits, and what else is frozen in ``bfloat16``.
        checkpointing: whether a differentiated layer keeps its input alone, and is computed again in the backward pass
            (Chen et al. 2016, arXiv 1604.06174).
        accumulation_steps: in how many passes, one after another, the batch of a local step is computed.
    """

    base_precision: BasePrecision = "float32"
    checkpointing: bool = False
    accumulation_steps: int = 1

    def pass_sizes(self, batch_size: int) -> tuple[int, ...]:
        """Examples in each pass of a step: as even as can be, the larger ones first, and none without any."""
        n_passes = min(self.accumulation_steps, batch_size)
        size, n_larger = divmod(batch_size, n_passes)
        return (size + 1,) * n_larger + (size,) * (n_passes - n_larger)


NO_SAVERS = MemorySavers()
