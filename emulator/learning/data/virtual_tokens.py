"""Batches with virtual tokens in front of each row."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from emulator.errors import ConfigError
from emulator.learning.data.batches import Batch
from emulator.learning.data.unpadded import Unpadded


def check_one_text_a_row(batch: Batch) -> None:
    """Raise ``ConfigError`` where several texts share a row, of which only the first would have virtual tokens."""
    if batch.positions is not None:
        raise ConfigError(
            "data.packing: virtual tokens stand in front of one text; leave it out, or choose adapters that add no"
            " tokens"
        )


def with_virtual_tokens(batch: Batch, n_virtual_tokens: int, filler_id: int) -> tuple[Batch, Tensor]:
    """``batch`` with so many tokens more in front of each row, and where these stand.

    They are attended to, nothing is expected to be said of them, and in a pair of texts they belong to the first.

    Args:
        batch: whose rows hold one text each.
        n_virtual_tokens: in front of each row.
        filler_id: what stands for them among the ids; never that of padding.

    Returns:
        The longer batch; and the places of virtual tokens, ``(rows * n_virtual_tokens,)``, row by row, counted over all
        tokens that the model is given: those of the padded batch, or those that are left without padding.
    """
    n_rows, length = batch.input_ids.shape
    rows = torch.arange(n_rows, device=batch.device)
    columns = torch.arange(n_virtual_tokens, device=batch.device)
    places = (rows[:, None] * (n_virtual_tokens + length) + columns).reshape(-1)

    def moved(old: Tensor) -> Tensor:
        """Where tokens come to stand that stood at ``old``, counted over all rows of the padded batch."""
        return old + (torch.div(old, length, rounding_mode="floor") + 1) * n_virtual_tokens

    def in_front(of_tokens: Tensor | None, value: int) -> Tensor | None:
        return None if of_tokens is None else F.pad(of_tokens, (n_virtual_tokens, 0), value=value)

    kept = batch.unpadded
    before_scored = None if batch.before_scored is None else moved(batch.before_scored)
    if kept is not None:
        assert before_scored is not None  # only batches whose loss is about tokens know how to do without padding
        tokens = moved(kept.places).view(kept.n_devices, -1)
        all_places = torch.cat([places.view(kept.n_devices, -1), tokens], dim=1).sort(dim=1).values.reshape(-1)
        kept = Unpadded(
            n_devices=kept.n_devices,
            places=all_places,
            before_scored=torch.searchsorted(all_places, before_scored),
        )
        places = torch.searchsorted(all_places, places)
    longer = replace(
        batch,
        input_ids=F.pad(batch.input_ids, (n_virtual_tokens, 0), value=filler_id),
        attention_mask=in_front(batch.attention_mask, 1),
        scored=in_front(batch.scored, 0),
        token_types=in_front(batch.token_types, 0),
        before_scored=before_scored,
        unpadded=kept,
    )
    return longer, places
