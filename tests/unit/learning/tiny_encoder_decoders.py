"""Tiny random encoder-decoders with a tokenizer of their own, made without a download."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import processors

from tests.unit.learning.tiny_decoders import tiny_tokenizer

N_ENCODER_LAYERS, N_DECODER_LAYERS = 2, 3
SIZES: dict[str, Any] = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": N_ENCODER_LAYERS,
    "num_decoder_layers": N_DECODER_LAYERS,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 2,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("T5Config", {"feed_forward_proj": "relu"}),
    "flan-t5": ("T5Config", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": ("MT5Config", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
}
"""T5 as it was published, with a plain MLP and the embeddings as its head; its later version, and that of many
languages, with a gated MLP and a head of its own."""


def save_tiny_encoder_decoder(family: str, folder: Path, tokenizer: Any = None) -> str:
    """Saves an encoder-decoder with its tokenizer, which ends texts as T5's does; returns its directory."""
    tokenizer = tokenizer or ending_tokenizer()
    name, own = FAMILIES[family]
    config = getattr(transformers, name)(vocab_size=len(tokenizer) + 4, **{**SIZES, **own})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model: Any = transformers.AutoModelForSeq2SeqLM.from_config(config)  # type: ignore[no-untyped-call]
        if own.get("tie_word_embeddings") is False:
            model.lm_head.weight = torch.nn.Parameter(0.2 * torch.randn_like(model.shared.weight))
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def ending_tokenizer() -> Any:
    """The tokenizer of the tiny decoders, with the token behind each text that ends it."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[no-untyped-call]
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    return tokenizer
