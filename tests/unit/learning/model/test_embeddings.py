"""Embeddings are the means of what the last layer makes of the tokens, padding left out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from emulator.learning.data.tokens import TokenData
from emulator.learning.model.embeddings import mean_pooled
from emulator.learning.model.loading import load_model
from tests.unit.learning.tiny_models import SEQ_LEN, VOCABULARY, save_tiny_model


@pytest.mark.parametrize("family", ["bert", "distilbert", "llama"])
def test_a_row_is_the_mean_over_its_own_tokens(family: str, tmp_path: Path) -> None:
    folder = save_tiny_model(family, tmp_path / family)
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, SEQ_LEN + 1, 70).astype(np.int32)  # more than one batch
    ids = np.where(np.arange(SEQ_LEN) < lengths[:, None], rng.integers(3, VOCABULARY, (70, SEQ_LEN)), 0)
    data = TokenData(input_ids=ids.astype(np.int32), lengths=lengths, labels=np.zeros(70, dtype=np.int64))

    found = mean_pooled(load_model(folder, 2, seed=0), data)

    model = AutoModel.from_pretrained(folder).eval()
    for row in (0, 1, 66, 69):
        with torch.no_grad():
            alone = model(torch.from_numpy(ids[row : row + 1, : lengths[row]])).last_hidden_state[0]
        assert found[row] == pytest.approx(alone.mean(dim=0).numpy(), abs=1e-5)


def test_the_number_of_threads_is_left_as_it_was(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        data = TokenData(
            input_ids=np.ones((3, 4), dtype=np.int32),
            lengths=np.full(3, 4, dtype=np.int32),
            labels=np.zeros(3, dtype=np.int64),
        )
        mean_pooled(load_model(save_tiny_model("bert", tmp_path / "bert"), 2, seed=0), data)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
