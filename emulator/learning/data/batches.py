"""Which examples a stack of devices sees in each step, as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emulator.learning.data.options import OptionRows
from emulator.learning.data.partition import Rows
from emulator.learning.data.tokens import TokenData, cut_length
from emulator.learning.data.unpadded import Unpadded, unpadded
from emulator.learning.upload import uploaded
from emulator.records import Job
from emulator.seeds import Seeds


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of several devices, device-major.

    ``rows`` are their numbers in the data; ``input_ids (rows, length)``; no ``attention_mask`` stands for one of all
    ones; ``labels (rows,)``, or ``(rows, n_labels)`` for sets of labels; ``weights (rows,)`` are 1 / batch size of the
    row's device, 0 for rows that only pad. ``scored (rows, length)`` are the tokens that the loss is about, where it is
    about tokens; ``before_scored (n_scored,)`` are the places of those in front of them, counted over all rows;
    ``token_types`` tell those of the second text of a pair, for models that ask for it; ``positions (rows, length)``
    are those of tokens in their own text, where several share a row; ``options`` tells of which choice each row is an
    option. ``index`` has ``rows`` where the model computes. ``n_scored (n_devices,)`` are the scored tokens of each
    device's whole batch, where this is a part of it; ``unpadded`` tells where tokens stand without the padding, where
    the loss is about tokens and there is some.

    Where the model answers with ``responses (rows, response_len)``, the loss is about their tokens, and
    ``before_scored`` are their own places: a decoder reads them one place further on.
    """

    rows: Rows
    index: Tensor
    input_ids: Tensor
    attention_mask: Tensor | None
    labels: Tensor
    weights: Tensor
    scored: Tensor | None = None
    before_scored: Tensor | None = None
    token_types: Tensor | None = None
    positions: Tensor | None = None
    options: OptionRows | None = None
    n_scored: Tensor | None = None
    unpadded: Unpadded | None = None
    responses: Tensor | None = None

    @property
    def device(self) -> str:
        return str(self.labels.device)

    @property
    def scored_tokens(self) -> Tensor:
        """The tokens that the loss is about, row by row, ``(n_scored,)``."""
        assert self.before_scored is not None
        if self.responses is not None:
            return self.responses.flatten().index_select(0, self.before_scored)
        return self.input_ids.flatten().index_select(0, self.before_scored + 1)

    @property
    def scored_rows(self) -> Tensor:
        """The row of each of these, ``(n_scored,)``."""
        assert self.before_scored is not None
        length = (self.input_ids if self.responses is None else self.responses).shape[1]
        return torch.div(self.before_scored, length, rounding_mode="floor")


def draw_rows(job: Job, local_rows: Rows, seeds: Seeds) -> Rows:
    """A device's batches, ``(n_steps, batch_size)``: a permutation of its own rows, repeated when it runs out."""
    rng = seeds.rng("batches", job.round_index, job.inner_round, job.device_id)
    size = (job.assignment.n_steps, job.assignment.batch_size)
    return np.resize(rng.permutation(local_rows), size)


class ResidentTokens:
    """Token data where a model computes: a batch of them is put together there, and takes no more than its rows.

    Args:
        data: on a CPU their memory is shared.
        device: torch's name of where to compute.
    """

    def __init__(self, data: TokenData, device: str) -> None:
        self.data, self.device = data, device
        self._input_ids, self._labels = uploaded(data.input_ids, device), uploaded(data.labels, device)
        self._lengths = uploaded(data.lengths, device)
        self._scored = None if data.scored is None else uploaded(data.scored, device)
        self._token_types = None if data.token_types is None else uploaded(data.token_types, device)
        self._positions = None if data.positions is None else uploaded(data.positions, device)
        self._responses = None if data.responses is None else uploaded(data.responses.input_ids, device)

    def stacked_batch(self, rows: Sequence[Rows]) -> Batch:
        """Joins one batch of rows per device; devices with smaller batches repeat their first row at weight 0."""
        return self._joined(rows, rows)

    def stacked_part(self, rows: Sequence[Rows], number: int, n_parts: int) -> Batch:
        """Part ``number`` of ``n_parts`` of what :meth:`stacked_batch` joins; the losses of all add up to those of it.

        The parts of a device are as even as can be, the larger ones first; where it has none left, its first row stands
        there at weight 0.
        """
        batch = self._joined([np.array_split(own, n_parts)[number] for own in rows], rows)
        of_rows = self.data.n_scored
        if of_rows is None:
            return batch
        n_scored = np.array([of_rows[own].sum() for own in rows])
        return replace(batch, n_scored=uploaded(n_scored, self.device))

    def _joined(self, rows: Sequence[Rows], whole: Sequence[Rows]) -> Batch:
        """``rows`` of each device, of its ``whole`` batch, by whose size they are weighed."""
        width = max(len(own) for own in rows)
        padded = np.stack(
            [
                np.pad(own, (0, width - len(own)), constant_values=of[0]) if len(own) < width else own
                for own, of in zip(rows, whole, strict=True)
            ]
        ).reshape(-1)
        counts, of_whole = (np.array([len(own) for own in each])[:, None] for each in (rows, whole))
        weights = np.where(np.arange(width) < counts, 1 / of_whole, 0).astype(np.float32).reshape(-1)
        return self.batch(padded, weights, len(rows))

    def batch(self, rows: Rows, weights: NDArray[np.float32] | None = None, n_devices: int = 1) -> Batch:
        """The given ``rows``, as many for each device, cut to the longest of them."""
        lengths = self.data.lengths[rows]
        length = cut_length(lengths, self.data.input_ids.shape[1])
        index = uploaded(rows, self.device)
        mask = None
        if lengths.min() < length:
            mask = torch.arange(length, device=self.device) < self._lengths.index_select(0, index)[:, None]
        if weights is None:
            weights = np.ones(len(rows), dtype=np.float32)
        before_scored, response_len = self._before_scored(rows, length), self._response_len(rows)
        return Batch(
            rows=rows,
            index=index,
            input_ids=self._input_ids[:, :length].index_select(0, index).long(),
            attention_mask=mask,
            labels=self._labels.index_select(0, index),
            weights=uploaded(weights, self.device),
            scored=None if self._scored is None else self._scored[:, :length].index_select(0, index),
            before_scored=None if before_scored is None else uploaded(before_scored, self.device),
            token_types=_numbers(self._token_types, index, length),
            positions=_numbers(self._positions, index, length),
            options=None if self.data.options is None else self.data.options.of(rows),
            responses=_numbers(self._responses, index, response_len),
            unpadded=None
            if before_scored is None or self._responses is not None
            else unpadded(lengths, length, before_scored, n_devices, self.device),
        )

    def _response_len(self, rows: Rows) -> int:
        """To how many tokens the responses of ``rows`` are cut, if there are any."""
        responses = self.data.responses
        return cut_length(responses.lengths[rows], responses.input_ids.shape[1]) if responses is not None else 0

    def _before_scored(self, rows: Rows, length: int) -> NDArray[np.int64] | None:
        if self.data.responses is not None:
            lengths = self.data.responses.lengths[rows]
            return np.flatnonzero(np.arange(self._response_len(rows)) < lengths[:, None])
        if self.data.scored is None:
            return None
        follows = np.zeros((len(rows), length), dtype=bool)
        follows[:, :-1] = self.data.scored[rows, 1:length]
        return np.flatnonzero(follows)


def _numbers(of_tokens: Tensor | None, index: Tensor, length: int) -> Tensor | None:
    """A number of each token of the rows of ``index``, ``(rows, length)``."""
    return None if of_tokens is None else of_tokens[:, :length].index_select(0, index).long()


def make_batch(rows: Rows, data: TokenData, device: str, weights: NDArray[np.float32] | None = None) -> Batch:
    """As :meth:`ResidentTokens.batch`, for a single batch."""
    return ResidentTokens(data, device).batch(rows, weights)
