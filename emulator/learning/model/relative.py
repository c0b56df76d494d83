"""DeBERTa's attention to relative positions, for many devices in one pass."""

from typing import Any

import torch
from torch import Tensor


class StackedPositions:
    """Takes the place of ``DisentangledSelfAttention.disentangled_attention_bias`` of transformers.

    He et al. 2021, arXiv 2006.03654, equation 4: to the products of content with content are added those of content
    with position and of position with content, with the same maps for both where the model shares them. Positions are
    the same for all sequences, but not what a device's adapters make of them: they go through the maps once per device.
    """

    def __init__(self, attention: Any) -> None:
        self._attention = attention

    def __call__(
        self, query: Tensor, key: Tensor, relative_pos: Tensor, rel_embeddings: Tensor, scale_factor: int
    ) -> Tensor | int:
        """What is added to the scores ``(rows * heads, length, length)``, rows device-major.

        Args:
            query: of the tokens, ``(rows * heads, length, size)``.
            key: of the tokens, as ``query``.
            relative_pos: ``(1, length, length)``, of each pair of tokens.
            rel_embeddings: ``(2 * span, hidden)``.
            scale_factor: how many kinds of products a score is the sum of.
        """
        span = self._attention.pos_ebd_size
        embeddings = rel_embeddings[: 2 * span]
        places = relative_pos.to(torch.long)
        scale = (query.shape[-1] * scale_factor) ** 0.5
        bias: Tensor | int = 0
        if "c2p" in self._attention.pos_att_type:
            scores = torch.bmm(query, self._positions("key", embeddings, len(query)).transpose(1, 2))
            bias = bias + _picked(scores, (places + span).clamp(0, 2 * span - 1)) / scale
        if "p2c" in self._attention.pos_att_type:
            scores = torch.bmm(key, self._positions("query", embeddings, len(key)).transpose(1, 2))
            bias = bias + _picked(scores, (span - places).clamp(0, 2 * span - 1)).transpose(1, 2) / scale
        return bias

    def _positions(self, name: str, embeddings: Tensor, n: int) -> Tensor:
        """Queries or keys of all relative positions, ``(rows * heads, 2 * span, size)`` for ``n`` rows times heads."""
        shared = self._attention.share_att_key
        module = getattr(self._attention, f"{name}_proj" if shared else f"pos_{name}_proj")
        n_devices = getattr(module, "n_devices", 1)
        mapped = module(embeddings.expand(n_devices, -1, -1))
        n_heads = self._attention.num_attention_heads
        heads = mapped.view(n_devices, len(embeddings), n_heads, -1).transpose(1, 2)
        n_rows = n // n_heads // n_devices
        laid_out: Tensor = heads.repeat_interleave(n_rows, dim=0).flatten(0, 1)
        return laid_out


def _picked(scores: Tensor, places: Tensor) -> Tensor:
    """Of the scores with all relative positions, those of each pair of tokens, ``(rows * heads, length, length)``."""
    return torch.gather(scores, -1, places.expand(len(scores), -1, -1))
