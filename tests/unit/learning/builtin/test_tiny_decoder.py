"""The shipped decoder: small, loadable by its folder alone, and at home with every command and answer of the task."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from emulator.learning.builtin import intents

TINY_LLAMA_12 = Path(intents.__file__).parent / "tiny-llama-12"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY_LLAMA_12)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(TINY_LLAMA_12, dtype=torch.float32)
    return loaded


def test_the_folder_is_at_most_three_megabytes() -> None:
    assert sum(path.stat().st_size for path in TINY_LLAMA_12.iterdir()) <= 3_000_000


def test_the_decoder_has_the_stated_size(model: PreTrainedModel) -> None:
    # Per layer: query and output of 4 heads of 16, key and value of 2, three maps of the feed-forward block, two norms.
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 176 + 2 * 64
    words = {*intents.vocabulary(), *intents.answer_words(), intents.CALL}
    # The head is the words' embeddings; the last norm.
    assert sum(parameter.numel() for parameter in model.parameters()) == (4 + len(words)) * 64 + 12 * layer + 64


def test_no_command_has_unknown_words_or_too_many_for_32_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    commands = intents.generate_commands(2_000, seed=11)
    ids = tokenizer([f"{command.text} {intents.CALL} {command.answer} </s>" for command in commands])["input_ids"]
    assert tokenizer.unk_token_id not in {token for sentence in ids for token in sentence}
    assert max(map(len, ids)) <= 32


def test_a_text_begins_with_its_token_and_a_chat_has_the_words_of_the_task(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.decode(tokenizer("Dim the lamp")["input_ids"]) == "<s> dim the lamp"
    turns = [{"role": "user", "content": "dim the lamp"}, {"role": "assistant", "content": "light down lamp"}]
    chat = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    assert tokenizer.decode(chat["input_ids"]) == "<s> dim the lamp => light down lamp </s>"
    assert sum(chat["assistant_masks"]) == 4


def test_padding_does_not_change_what_comes_next(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    text = intents.generate(1, seed=0)[0][0]
    alone = model(**tokenizer(text, return_tensors="pt")).logits
    padded = model(**tokenizer(text, padding="max_length", max_length=40, return_tensors="pt")).logits
    assert torch.allclose(alone, padded[:, : alone.shape[1]], atol=1e-5)
