"""Embeddings of texts by the model that is trained, before any training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from emulator.learning.data.batches import make_batch
from emulator.learning.data.tokens import TokenData
from emulator.learning.model.loading import FrozenModel

BATCH_ROWS = 64


def mean_pooled(frozen: FrozenModel, data: TokenData) -> NDArray[np.float64]:
    """The mean over the tokens of each row of what the last layer gives, ``(n, hidden_size)``; padding does not count.

    It is computed on the CPU in one thread: what is made of it must not depend on how many cores there are.
    """
    model: Any = frozen.build()
    is_of_two = getattr(model.config, "is_encoder_decoder", False)
    backbone = model.get_encoder() if is_of_two else getattr(model, model.base_model_prefix)
    pooled = []
    with torch.no_grad(), _one_thread():
        for start in range(0, len(data.lengths), BATCH_ROWS):
            batch = make_batch(np.arange(start, min(start + BATCH_ROWS, len(data.lengths))), data, "cpu")
            types = {} if batch.token_types is None else {"token_type_ids": batch.token_types}
            output = backbone(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **types)
            hidden = output.last_hidden_state
            mask = torch.ones(hidden.shape[:2]) if batch.attention_mask is None else batch.attention_mask
            total = (hidden * mask[:, :, None]).sum(dim=1)
            pooled.append((total / mask.sum(dim=1, keepdim=True)).double().numpy())
    return np.concatenate(pooled)


@contextmanager
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
