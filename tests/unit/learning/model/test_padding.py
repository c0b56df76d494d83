"""What rows are padded with is the tokenizer's alone: a row's logits do not depend on what it is batched with."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from emulator.learning.data.tokens import tokenize
from emulator.learning.model.loading import load_model
from emulator.learning.model.places import locate
from emulator.learning.model.tokenizer import load_tokenizer
from tests.unit.learning.test_prepare import word_tokenizer
from tests.unit.learning.tiny_models import CONFIGS, N_LABELS, save_tiny_model

TEXTS = ("red", "green one two three", "blue two", "red one two three red two")


def logits(folder: Path, stated: int | None, batch_size: int) -> Tensor:
    """Those of the texts, so many in a pass, under a configuration that states an id of padding or none."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": stated}))
    place = locate(str(folder))
    tokenizer = load_tokenizer(place)
    model = load_model(place, N_LABELS, seed=0, pad_token_id=tokenizer.pad_token_id).build()
    data, _ = tokenize(TEXTS, np.zeros(len(TEXTS), dtype=np.int64), tokenizer, 10)
    found = []
    for start in range(0, len(TEXTS), batch_size):
        rows = slice(start, start + batch_size)
        length = int(data.lengths[rows].max())
        mask = torch.from_numpy(np.arange(length) < data.lengths[rows, None])
        with torch.no_grad():
            ids = torch.from_numpy(data.input_ids[rows, :length].astype(np.int64))
            found.append(model(input_ids=ids, attention_mask=mask).logits)
    return torch.cat(found)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("stated", [None, 0, 5])
def test_logits_do_not_depend_on_the_batch_nor_on_what_the_configuration_states(
    stated: int | None, family: str, tmp_path: Path
) -> None:
    save_tiny_model(family, tmp_path)
    word_tokenizer().save_pretrained(tmp_path)  # pads with id 0
    expected = logits(tmp_path, 0, batch_size=1)
    for batch_size in (1, 4):
        assert torch.allclose(logits(tmp_path, stated, batch_size), expected, atol=1e-5)
