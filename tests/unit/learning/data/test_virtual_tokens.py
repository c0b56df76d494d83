"""Where virtual tokens and the tokens behind them stand in a batch."""

import numpy as np
import pytest
import torch

from emulator.errors import ConfigError
from emulator.learning.data.batches import Batch, make_batch
from emulator.learning.data.tokens import TokenData
from emulator.learning.data.virtual_tokens import check_one_text_a_row, with_virtual_tokens

FILLER = 9


def batch(positions: bool = False) -> Batch:
    """Rows of 3 and of 5 tokens, of which the last two are scored."""
    data = TokenData(
        input_ids=np.array([[11, 12, 13, 0, 0], [21, 22, 23, 24, 25]], dtype=np.int32),
        lengths=np.array([3, 5], dtype=np.int32),
        labels=np.zeros(2, dtype=np.int64),
        scored=np.array([[0, 1, 1, 0, 0], [0, 0, 0, 1, 1]], dtype=bool),
        positions=np.array([[0, 1, 0, 0, 0], [0, 1, 2, 3, 4]], dtype=np.int32) if positions else None,
    )
    return make_batch(np.arange(2), data, "cpu")


def test_rows_are_longer_and_nothing_is_expected_of_what_is_in_front() -> None:
    before = batch()
    longer, places = with_virtual_tokens(before, 2, FILLER)
    assert longer.input_ids.tolist() == [[FILLER, FILLER, 11, 12, 13, 0, 0], [FILLER, FILLER, 21, 22, 23, 24, 25]]
    assert longer.attention_mask is not None
    assert longer.attention_mask.long().tolist() == [[1, 1, 1, 1, 1, 0, 0], [1] * 7]
    assert longer.scored is not None
    assert not longer.scored[:, :2].any()
    assert torch.equal(longer.labels, before.labels)
    assert longer.unpadded is not None
    assert len(places) == 2 * 2


def test_what_stands_before_a_scored_token_is_found_again() -> None:
    before = batch()
    longer, _ = with_virtual_tokens(before, 2, FILLER)
    assert before.before_scored is not None
    assert longer.before_scored is not None
    one = before.input_ids.flatten()[before.before_scored]
    assert torch.equal(one, longer.input_ids.flatten()[longer.before_scored])


def test_without_padding_each_row_keeps_its_virtual_tokens() -> None:
    before = batch()
    longer, places = with_virtual_tokens(before, 2, FILLER)
    assert before.unpadded is not None
    assert longer.unpadded is not None
    kept = longer.input_ids.flatten()[longer.unpadded.places]
    assert kept.tolist() == [FILLER, FILLER, 11, 12, 13, FILLER, FILLER, 21, 22, 23, 24, 25]
    assert places.tolist() == [0, 1, 5, 6]
    assert kept[longer.unpadded.before_scored].tolist() == [11, 12, 23, 24]


def test_several_texts_in_a_row_are_refused() -> None:
    check_one_text_a_row(batch())
    with pytest.raises(ConfigError, match=r"data\.packing: virtual tokens stand in front of one text"):
        check_one_text_a_row(batch(positions=True))
