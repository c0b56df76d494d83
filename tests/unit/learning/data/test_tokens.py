"""Token ids are padded on the right, and batches are cut by a rule."""

from typing import Any

import numpy as np

from emulator.learning.data.tokens import cut_length, tokenize


def test_batches_are_cut_to_an_even_number_of_tokens() -> None:
    assert [cut_length(np.array([3, n], dtype=np.int32), 25) for n in (3, 8, 9, 25)] == [4, 8, 10, 25]


class WordTokenizer:
    """One token per word, in the manner of transformers' tokenizers."""

    def __call__(self, texts: list[str], max_length: int, **settings: Any) -> dict[str, Any]:
        lengths = np.array([min(len(text.split()), max_length) for text in texts])
        mask = (np.arange(max_length) < lengths[:, None]).astype(np.int64)
        return {"input_ids": mask * 9, "attention_mask": mask}


def test_tokens_are_padded_to_the_sequence_length() -> None:
    tokens = tokenize(["a b c", "a b c d e f"], np.array([0, 1]), WordTokenizer(), 4)
    assert tokens.input_ids.tolist() == [[9, 9, 9, 0], [9, 9, 9, 9]]
    assert tokens.input_ids.dtype == np.int32
    assert tokens.lengths.tolist() == [3, 4]
