"""Tiny random decoders with a tokenizer of their own, and files of prompts and responses, made without a download."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
OTHERS = ("gpt2", "phi3")
"""Those of them whose layers are transformers' own: query, key and value are one matrix."""
FAMILIES = {
    "llama": ("LlamaConfig", {"tie_word_embeddings": False}),
    "llama-tied": ("LlamaConfig", {"tie_word_embeddings": True}),
    "mistral": ("MistralConfig", {"sliding_window": None}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "gpt2": ("GPT2Config", {"n_inner": 64}),
    "phi3": ("Phi3Config", {}),
    "opt": ("OPTConfig", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "opt-narrow": ("OPTConfig", {"ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "gemma2": ("Gemma2Config", {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}),
    "gemma3": ("Gemma3TextConfig", {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}),
    "gemma": ("GemmaConfig", {"head_dim": 8, "tie_word_embeddings": True}),
}
COLOURS, THINGS = ("red", "green", "blue", "grey"), ("apple", "stone", "river", "cloud", "house")


def rows(n: int) -> list[dict[str, str]]:
    """Prompts with responses of several lengths."""
    return [
        {
            "prompt": f"what is the colour of the {THINGS[row % 5]} number {row}",
            "response": " ".join([f"the {THINGS[row % 5]} is {COLOURS[row * 7 % 4]}"] * (1 + row % 3)),
        }
        for row in range(n)
    ]


CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Turns as ChatML has them (OpenAI 2023, chatml.md of its Python library), with tokens of :func:`tiny_tokenizer`."""


def write_chats(path: Path, n: int = 40) -> str:
    """A jsonl file of :func:`rows` as chats of two turns each."""
    chats = [
        [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]
        for row in rows(n)
    ]
    path.write_text("".join(f"{json.dumps({'messages': chat})}\n" for chat in chats), encoding="utf-8")
    return str(path)


def write_rows(path: Path, n: int = 40) -> str:
    """A jsonl file of :func:`rows`."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows(n)), encoding="utf-8")
    return str(path)


def save_tiny_decoder(family: str, folder: Path, chat_template: str | None = None) -> str:
    """Saves a causal language model with its tokenizer; returns its directory.

    The model knows some words more, since some families add special ones of their own to a tokenizer.
    """
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = chat_template
    name, own = FAMILIES[family]
    config = getattr(transformers, name)(
        vocab_size=len(tokenizer) + 4, bos_token_id=1, eos_token_id=2, pad_token_id=0, **{**SIZES, **own}
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model: Any = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def tiny_tokenizer() -> Any:
    """Byte-level BPE of 300 words, trained on :func:`rows`, with the special tokens of a decoder."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for row in rows(200) for text in row.values()), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")  # type: ignore[no-untyped-call]
