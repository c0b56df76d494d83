"""Token ids are padded on the right, batches are cut by a rule, and what is cut off texts is counted."""

import numpy as np
import pytest

from emulator.errors import DataError
from emulator.learning.data.tokens import Cut, cut_length, tokenize
from tests.unit.learning.test_prepare import word_tokenizer

LABELS = np.array([0, 1])


def test_batches_are_cut_to_an_even_number_of_tokens() -> None:
    assert [cut_length(np.array([3, n], dtype=np.int32), 25) for n in (3, 8, 9, 25)] == [4, 8, 10, 25]


def test_tokens_are_padded_to_the_sequence_length() -> None:
    tokens, _ = tokenize(["red one", "red one two three"], LABELS, word_tokenizer(), 5)
    # [CLS] red one [SEP] [PAD]; [CLS] red one two [SEP]
    assert tokens.input_ids.tolist() == [[2, 5, 8, 3, 0], [2, 5, 8, 9, 3]]
    assert tokens.input_ids.dtype == np.int32
    assert tokens.lengths.tolist() == [4, 5]


def test_cut_texts_and_tokens_are_counted_without_those_that_a_tokenizer_adds() -> None:
    _, cut = tokenize(["red", "red one two three red one two"], LABELS, word_tokenizer(), 5)
    # Three words of seven fit between [CLS] and [SEP].
    assert cut == Cut(n_texts=2, n_texts_cut=1, n_tokens=8, n_tokens_cut=4)


def test_a_length_that_leaves_no_token_of_a_text_is_refused() -> None:
    with pytest.raises(DataError, match=r"data.seq_len leaves no token of a text, .* adds 2 .* at least 3, got 2"):
        tokenize(["red", "one"], LABELS, word_tokenizer(), 2)


def test_rows_that_are_not_padded_on_the_right_are_an_error() -> None:
    tokenizer = word_tokenizer()
    tokenizer.padding_side = "left"
    with pytest.raises(DataError, match="does not pad on the right"):
        tokenize(["red", "red one"], LABELS, tokenizer, 8)
