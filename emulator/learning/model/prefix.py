"""Reuse of the frozen prefix: what the layers below the lowest adapter give for a sample never changes."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from emulator.learning.data.batches import Batch, ResidentTokens
from emulator.learning.data.partition import Rows
from emulator.learning.model.decoder import DecoderPass, with_padding, without_padding
from emulator.learning.model.encoder import LAYOUTS
from emulator.learning.model.loading import FrozenModel
from emulator.learning.model.virtual_keys import argument_of

Around = Callable[[int, Tensor, object], AbstractContextManager[None]]

VirtualKeys = Callable[[int], Any]
"""Keys and values that stand in front of those of so many rows in every layer, as transformers takes them."""

BLOCK_ROWS = 64
"""Hidden states are computed for blocks of so many consecutive rows, and always for whole blocks.

What a product gives for a row may depend, in the last bit, on how many rows there are. With fixed blocks a cached value
is the same on every host, whatever that host was asked before.
"""


class PrefixCache:
    """Hidden states of samples at the input of one layer, kept in memory under a budget.

    Which rows are covered follows from the budget alone, never from what was asked before.
    """

    def __init__(self, layers: "SkippableLayers", tokens: ResidentTokens, hidden_size: int, budget_bytes: int) -> None:
        self._layers, self._tokens = layers, tokens
        self._row_shape = (tokens.data.input_ids.shape[1], hidden_size)
        self._row_bytes = int(np.prod(self._row_shape)) * layers.dtype.itemsize
        self.n_covered = min(len(tokens.data.lengths), max(budget_bytes, 0) // self._row_bytes)
        self.n_bytes = self.n_covered * self._row_bytes
        self._layer = 0
        self._hidden: Tensor
        self._is_known = np.zeros(-(-self.n_covered // BLOCK_ROWS), dtype=bool)

    def hidden(self, batch: Batch, layer: int) -> Tensor | None:
        """The input of ``layer`` for the rows of ``batch``, ``(rows, length, hidden)``; None for rows not covered."""
        if layer == 0 or batch.rows.max() >= self.n_covered:
            return None
        if layer != self._layer:
            self._layer = layer
            self._is_known[:] = False
            self._hidden = torch.zeros(self.n_covered, *self._row_shape, dtype=self._layers.dtype, device=batch.device)
        blocks = np.unique(batch.rows // BLOCK_ROWS)
        for block in blocks[~self._is_known[blocks]]:
            self._compute(np.arange(block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, self.n_covered)))
            self._is_known[block] = True
        return self._hidden[:, : batch.input_ids.shape[1]].index_select(0, batch.index)

    @property
    def n_layers(self) -> int:
        """How many layers the kept values stand for."""
        return self._layer if self._is_known.any() else 0

    @property
    def n_used_bytes(self) -> int:
        """What the blocks known so far take."""
        return min(int(self._is_known.sum()) * BLOCK_ROWS, self.n_covered) * self._row_bytes

    def _compute(self, rows: Rows) -> None:
        batch = self._tokens.batch(rows)
        hidden = self._layers.input_of(self._layer, batch)
        self._hidden[rows[0] : rows[-1] + 1, : hidden.shape[1]] = hidden


class SkippableLayers:
    """Lets a forward pass of ``model`` start at any layer, for every family whose layers map hidden states to the same.

    Each layer's ``forward`` is replaced by one that first looks here.

    Attributes:
        around: where set, ``around(layer, hidden, others)`` is entered around the forward pass of every layer;
            ``others`` is what the layer is given beside its input.
        checkpointing: whether layers keep their input alone for the backward pass, and are computed again in it. It
            takes the place of ``around``.
        virtual_keys: where set, what stands in front of the keys and values of a batch; transformers' own layers, which
            alone know of it, then compute.
        by_rows: whether somebody looks at what becomes of each row, which must not be joined with others then.
    """

    def __init__(self, model: PreTrainedModel, frozen: FrozenModel, decoder: DecoderPass | None = None) -> None:
        """``decoder`` is that of :func:`~emulator.learning.model.decoder.speed_up_decoder`."""
        self._model, self._decoder = model, decoder
        self.dtype: torch.dtype = model.dtype
        self._is_encoder = type(model).__name__ in LAYOUTS and not getattr(model.config, "is_decoder", False)
        self._given: tuple[int, Tensor] | None = None
        self._wanted: int | None = None
        self.around: Around | None = None
        self.checkpointing = False
        self.by_rows = False
        self.virtual_keys: VirtualKeys | None = None
        for index, path in enumerate(frozen.layer_paths()):
            layer: Any = model.get_submodule(path)
            layer.forward = self._skippable(index, layer.forward)

    def run(self, batch: Batch, layer: int, hidden: Tensor | None) -> Any:
        """The model's output for ``batch``, from the input ``hidden`` of ``layer`` on, or from the start without."""
        decoder = self._decoder if self.is_fast else None
        kept = batch.unpadded if decoder is not None else None
        self._given = (layer, without_padding(hidden, kept)) if hidden is not None else None
        try:
            if decoder is not None:
                return self._model(**decoder.inputs(batch))
            types = {} if batch.token_types is None else {"token_type_ids": batch.token_types}
            if batch.responses is not None:  # what the decoder is forced to say, one place further on
                shifted: Any = self._model.prepare_decoder_input_ids_from_labels
                types["decoder_input_ids"] = shifted(batch.responses)
            if self.virtual_keys is not None:
                return self._model(input_ids=batch.input_ids, **self._behind_keys(self.virtual_keys, batch), **types)
            if batch.positions is not None:  # which alone tell where texts that share a row begin
                return self._model(input_ids=batch.input_ids, position_ids=batch.positions)
            return self._model(input_ids=batch.input_ids, attention_mask=self._mask(batch), **types)
        finally:
            self._given = None
            if decoder is not None:
                decoder.rows = None

    @property
    def is_fast(self) -> bool:
        """Whether layers of a decoder compute in the fast way at present, on tokens without padding.

        They do not where dropout is drawn, where keys stand in front of those of the rows, or where somebody looks at
        what each row keeps.
        """
        is_looked_at = self.around is not None or self.by_rows
        is_plain = self.virtual_keys is None and not self._model.training
        return self._decoder is not None and not is_looked_at and is_plain

    def _behind_keys(self, virtual_keys: VirtualKeys, batch: Batch) -> dict[str, Any]:
        """Keys and values in front of those of ``batch``, and a mask by which all tokens attend to them."""
        cache = virtual_keys(len(batch.rows))
        mask = self._mask(batch)
        if mask is not None:
            mask = F.pad(mask, (cache.get_seq_length(), 0), value=1)
        return {str(argument_of(self._model)): cache, "attention_mask": mask}

    def _mask(self, batch: Batch) -> Tensor | None:
        """The mask of an encoder as its layers take it, ``(rows, 1, length, length)``.

        Of one of two axes, transformers would first ask whether it hides anything, and wait for the answer.
        """
        mask = batch.attention_mask
        if mask is None or not self._is_encoder:
            return mask
        return mask[:, None, None].expand(-1, -1, mask.shape[1], -1)

    def input_of(self, layer: int, batch: Batch, *, has_gradients: bool = False) -> Tensor:
        """The input of ``layer``, ``(rows, length, hidden)``."""
        self._wanted = layer
        around = self.around
        try:
            if not has_gradients:
                self.around = None  # what is kept must not depend on who asks
            with torch.set_grad_enabled(has_gradients):
                self.run(batch, 0, None)
        except _Reached as reached:
            kept = batch.unpadded if self.is_fast else None
            return with_padding(reached.hidden, kept, *batch.input_ids.shape)
        finally:
            self._wanted, self.around = None, around
        raise AssertionError(f"the forward pass never came to layer {layer}")

    def _in_this_pass(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """``forward`` as it computes now, also when it is called again after the pass."""
        decoder = self._decoder
        if decoder is None:
            return forward
        rows = decoder.rows

        def in_this_pass(*args: Any, **kwargs: Any) -> Any:
            before, decoder.rows = decoder.rows, rows
            try:
                return forward(*args, **kwargs)
            finally:
                decoder.rows = before

        return in_this_pass

    def _skippable(self, index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def forward_or_skip(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            if index == self._wanted:
                raise _Reached(hidden_states)
            if self._given is not None:
                layer, hidden = self._given
                if index < layer:
                    return hidden_states
                if index == layer:
                    hidden_states, self._given = hidden, None  # a layer may be computed several times in turn
            if self.checkpointing and torch.is_grad_enabled():
                # Where nothing is dropped out, nothing is drawn that would have to be drawn again.
                keeps_rng = bool(self._model.training)
                again = self._in_this_pass(forward)
                return checkpoint(
                    again, hidden_states, *args, use_reentrant=False, preserve_rng_state=keeps_rng, **kwargs
                )
            if self.around is None:
                return forward(hidden_states, *args, **kwargs)
            with self.around(index, hidden_states, (args, kwargs)):
                return forward(hidden_states, *args, **kwargs)

        return forward_or_skip


class _Reached(Exception):
    """Ends a forward pass at the layer whose input is wanted."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden
