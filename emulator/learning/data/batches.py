"""Which examples a stack of devices sees in each step, as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emulator.learning.data.options import OptionRows
from emulator.learning.data.partition import Rows
from emulator.learning.data.tokens import TokenData, cut_length
from emulator.records import Job
from emulator.seeds import Seeds


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of several devices, device-major.

    ``rows`` are their numbers in the data; ``input_ids (rows, length)``; no ``attention_mask`` stands for one of all
    ones; ``labels (rows,)``, or ``(rows, n_labels)`` for sets of labels; ``weights (rows,)`` are 1 / batch size of the
    row's device, 0 for rows that only pad. ``scored (rows, length)`` are the tokens that the loss is about, where it is
    about tokens; ``token_types`` tell those of the second text of a pair, for models that ask for it; ``positions``
    ``(rows, length)`` are those of tokens in their own text, where several share a row; ``options`` tells of which
    choice each row is an option.
    """

    rows: Rows
    input_ids: Tensor
    attention_mask: Tensor | None
    labels: Tensor
    weights: Tensor
    scored: Tensor | None = None
    token_types: Tensor | None = None
    positions: Tensor | None = None
    options: OptionRows | None = None

    @property
    def device(self) -> str:
        return str(self.labels.device)


def draw_rows(job: Job, local_rows: Rows, seeds: Seeds) -> Rows:
    """A device's batches, ``(n_steps, batch_size)``: a permutation of its own rows, repeated when it runs out."""
    rng = seeds.rng("batches", job.round_index, job.inner_round, job.device_id)
    size = (job.assignment.n_steps, job.assignment.batch_size)
    return np.resize(rng.permutation(local_rows), size)


def stacked_batch(rows: Sequence[Rows], data: TokenData, device: str) -> Batch:
    """Joins one batch of rows per device; devices with smaller batches repeat their first row at weight 0."""
    width = max(len(own) for own in rows)
    padded = np.stack([np.pad(own, (0, width - len(own)), constant_values=own[0]) for own in rows]).reshape(-1)
    counts = np.array([len(own) for own in rows])[:, None]
    weights = np.where(np.arange(width) < counts, 1 / counts, 0).astype(np.float32).reshape(-1)
    return make_batch(padded, data, device, weights)


def make_batch(rows: Rows, data: TokenData, device: str, weights: NDArray[np.float32] | None = None) -> Batch:
    """The given ``rows`` of ``data``, cut to the longest of them."""
    lengths = data.lengths[rows]
    length = cut_length(lengths, data.input_ids.shape[1])
    mask = torch.from_numpy(np.arange(length) < lengths[:, None]).to(device) if lengths.min() < length else None
    if weights is None:
        weights = np.ones(len(rows), dtype=np.float32)
    return Batch(
        rows=rows,
        input_ids=torch.from_numpy(data.input_ids[rows, :length].astype(np.int64)).to(device),
        attention_mask=mask,
        labels=torch.from_numpy(data.labels[rows]).to(device),
        weights=torch.from_numpy(weights).to(device),
        scored=None if data.scored is None else torch.from_numpy(data.scored[rows, :length]).to(device),
        token_types=_numbers(data.token_types, rows, length, device),
        positions=_numbers(data.positions, rows, length, device),
        options=None if data.options is None else data.options.of(rows),
    )


def _numbers(of_tokens: NDArray[Any] | None, rows: Rows, length: int, device: str) -> Tensor | None:
    """A number of each token of ``rows``, ``(rows, length)``."""
    if of_tokens is None:
        return None
    return torch.from_numpy(of_tokens[rows, :length].astype(np.int64)).to(device)
