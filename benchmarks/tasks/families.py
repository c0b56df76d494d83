"""Tiny models of many families with random weights, each with a tokenizer, as transformers saves them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
DECODER_SIZES = SIZES | {"num_key_value_heads": 2}
DISTILBERT_SIZES = {"dim": 32, "hidden_dim": 64, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 64}
GPT2_SIZES = {"n_embd": 32, "n_inner": 64, "n_layer": 3, "n_head": 4, "n_positions": 64}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "share_att_key": True}
OPT_SIZES = {"ffn_dim": 64, "word_embed_proj_dim": 32}

ENCODERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "bert": ("BertConfig", SIZES),
    "roberta": ("RobertaConfig", SIZES),
    "xlm-roberta": ("XLMRobertaConfig", SIZES),
    "camembert": ("CamembertConfig", SIZES),
    "roberta-prelayernorm": ("RobertaPreLayerNormConfig", SIZES),
    "distilbert": ("DistilBertConfig", DISTILBERT_SIZES),
    "electra": ("ElectraConfig", SIZES | {"embedding_size": 32}),
    "mpnet": ("MPNetConfig", SIZES),
    "deberta-v2": ("DebertaV2Config", SIZES | RELATIVE),
    "modernbert": ("ModernBertConfig", SIZES | {"global_attn_every_n_layers": 2, "local_attention": 16}),
    "albert": ("AlbertConfig", SIZES | {"num_hidden_groups": 3, "embedding_size": 16}),
}
DECODERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama": ("LlamaConfig", DECODER_SIZES),
    "mistral": ("MistralConfig", DECODER_SIZES | {"sliding_window": None}),
    "qwen2": ("Qwen2Config", DECODER_SIZES),
    "qwen3": ("Qwen3Config", DECODER_SIZES | {"head_dim": 8}),
    "gemma": ("GemmaConfig", DECODER_SIZES | {"head_dim": 8}),
    "gemma2": ("Gemma2Config", DECODER_SIZES | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}),
    "gemma3_text": (
        "Gemma3TextConfig",
        DECODER_SIZES | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16},
    ),
    "opt": ("OPTConfig", SIZES | OPT_SIZES),
    "phi3": ("Phi3Config", DECODER_SIZES),
    "gpt2": ("GPT2Config", GPT2_SIZES),
}
"""Class of the configuration in transformers, and its settings."""
T5_SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_heads": 4, "decoder_start_token_id": 0}
ENCODER_DECODERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "t5": ("T5Config", T5_SIZES),
    "mt5": ("MT5Config", T5_SIZES | {"feed_forward_proj": "gated-gelu"}),
}

TELLS_PAIRS_APART = ("bert", "electra")
"""Families that are told which tokens are of the second text."""
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
N_SPARE_ROWS = 4
"""Some families add special words of their own to a tokenizer."""
NOISE = 0.1
"""Standard deviation of what is added to matrices: those that transformers draws are so small that nothing of the text
would reach the head of a model that nobody has pre-trained. Biases are left as they are."""


def write_model(family: str, words: Sequence[str], folder: Path) -> None:
    """Saves a model whose tokenizer knows ``words``: an encoder without a head, any other as a language model."""
    is_encoder = family in ENCODERS
    tokenizer = _encoders_tokenizer(words, family in TELLS_PAIRS_APART) if is_encoder else _decoders_tokenizer(words)
    auto: Any = transformers.AutoModelForSequenceClassification if is_encoder else transformers.AutoModelForCausalLM
    if family in ENCODER_DECODERS:
        tokenizer, auto = _ending(tokenizer), transformers.AutoModelForSeq2SeqLM
    name, settings = {**ENCODERS, **DECODERS, **ENCODER_DECODERS}[family]
    config = getattr(transformers, name)(
        vocab_size=len(tokenizer) + N_SPARE_ROWS,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **settings,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = auto.from_config(config)
        with torch.no_grad():
            for parameter in (each for each in model.parameters() if each.dim() > 1):
                parameter += NOISE * torch.randn_like(parameter)
    (model.base_model if is_encoder else model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _encoders_tokenizer(words: Sequence[str], tells_pairs_apart: bool) -> Any:
    """One word per id."""
    number = {word: index for index, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(number, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    second = 1 if tells_pairs_apart else 0
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair=f"<s> $A </s> $B:{second} </s>:{second}",
        special_tokens=[(word, number[word]) for word in ("<s>", "</s>")],
    )
    inputs = ["input_ids", *(["token_type_ids"] if tells_pairs_apart else []), "attention_mask"]
    return _as_transformers_has_it(tokenizer, inputs)


def _decoders_tokenizer(words: Sequence[str]) -> Any:
    """Byte-level BPE, which is what transformers takes a tokenizer of Qwen2 for, whatever it is."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*words, *(f" {word}" for word in words)], trainer)
    return _as_transformers_has_it(tokenizer, ["input_ids", "attention_mask"])


def _ending(tokenizer: Any) -> Any:
    """The tokenizer with the token behind each text that ends it, as T5's has it."""
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.eos_token_id)]
    )
    return tokenizer


def _as_transformers_has_it(tokenizer: Tokenizer, inputs: list[str]) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        model_input_names=inputs,
    )
