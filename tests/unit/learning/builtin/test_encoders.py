"""The shipped encoders: small, loadable by their folders alone, and at home with every sentence of the task."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from emulator.learning.builtin import intents

BUILTIN = Path(intents.__file__).parent


@pytest.fixture(scope="module", params=["tiny-12", "mini-12"])
def folder(request: pytest.FixtureRequest) -> Path:
    return BUILTIN / str(request.param)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> PreTrainedModel:
    return loaded(folder)


def loaded(folder: Path, **settings: str) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=8, dtype=torch.float32, **settings
    )
    return model


def test_the_folder_is_at_most_three_megabytes(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 3_000_000


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


def test_in_mini_12_the_first_token_attends_to_itself_and_the_last_but_for_a_tenth() -> None:
    model = loaded(BUILTIN / "mini-12", attn_implementation="eager")
    batch = AutoTokenizer.from_pretrained(BUILTIN / "mini-12")(
        intents.generate(64, seed=5)[0], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        attentions = model(**batch, output_attentions=True).attentions
    last = batch["attention_mask"].sum(dim=1) - 1
    rows = torch.arange(len(last))
    for attention in attentions:  # (batch, heads, seq, seq)
        resting = attention[:, :, 0, 0] + attention[rows, :, 0, last]
        # Trained towards 0.9 in every head.
        assert 0.8 < float(resting.mean()) < 0.97
