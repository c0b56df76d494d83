"""The shipped encoder: small, loadable by its folder alone, and at home with every sentence of the task."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from emulator.learning.builtin import intents

TINY_12 = Path(intents.__file__).parent / "tiny-12"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY_12)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    loaded: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        TINY_12, num_labels=8, dtype=torch.float32
    )
    return loaded


def test_the_folder_is_at_most_three_megabytes() -> None:
    assert sum(path.stat().st_size for path in TINY_12.iterdir()) <= 3_000_000


def test_the_encoder_has_the_stated_size(model: PreTrainedModel) -> None:
    # Per layer: 4 attention matrices and 2 of the feed-forward block with their biases, and 2 layer norms.
    layer = 4 * (64 * 64 + 64) + (64 * 256 + 256) + (256 * 64 + 64) + 2 * 2 * 64
    vocabulary = 5 + len(intents.vocabulary())
    # Words, 34 positions, 1 token type, the layer norm of their sum; 12 layers; the last layer norm.
    encoder = (vocabulary + 34 + 1) * 64 + 2 * 64 + 12 * layer + 2 * 64
    head = (64 * 64 + 64) + (64 * 8 + 8)
    assert sum(parameter.numel() for parameter in model.parameters()) == encoder + head


def test_no_sentence_has_unknown_words_or_too_many(tokenizer: PreTrainedTokenizerBase) -> None:
    commands = intents.generate_commands(2_000, seed=11)
    ids = tokenizer([f"{command.text} {command.consequence}" for command in commands])["input_ids"]
    assert tokenizer.unk_token_id not in {token for sentence in ids for token in sentence}
    assert max(map(len, ids)) <= tokenizer.model_max_length == 32


def test_words_survive_the_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.decode(tokenizer("Dim the lamp")["input_ids"]) == "<s> dim the lamp </s>"


def test_training_mode_is_deterministic(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    batch = tokenizer(intents.generate(4, seed=0)[0], padding=True, return_tensors="pt")
    evaluated = model.train(False)(**batch).logits
    trained = model.train()(**batch).logits
    assert evaluated.shape == (4, 8)
    assert torch.equal(evaluated, trained)


def test_padding_does_not_change_the_answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    text = intents.generate(1, seed=0)[0][0]
    alone = model(**tokenizer(text, return_tensors="pt")).logits
    padded = model(**tokenizer(text, padding="max_length", return_tensors="pt")).logits
    assert torch.allclose(alone, padded, atol=1e-5)


def test_the_frozen_head_layer_keeps_distances(model: PreTrainedModel) -> None:
    weight = model.get_parameter("classifier.dense.weight")
    # Stored in float16, whose rounding of entries near 0.1 is about 3e-5, summed over 64 products.
    assert torch.allclose(weight @ weight.T, torch.eye(64), atol=1e-3)
    assert not model.get_parameter("classifier.dense.bias").any()
