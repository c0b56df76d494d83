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

TELLS_PAIRS_APART = ("bert", "electra")
"""Families that are told which tokens are of the second text."""
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
N_SPARE_ROWS = 4
"""Some families add special words of their own to a tokenizer."""
NOISE = 0.1
"""Standard deviation of what is added to matrices: those that transformers draws are so small that nothing of the text
would reach the head of a model that nobody has pre-trained. Biases are left as they are."""


def write_model(family: str, words: Sequence[str], folder: Path) -> None:
    """Saves a model whose tokenizer knows ``words``: an encoder without a head, a decoder as language model."""
    is_decoder = family in DECODERS
    tokenizer = _decoders_tokenizer(words) if is_decoder else _encoders_tokenizer(words, family in TELLS_PAIRS_APART)
    name, settings = (DECODERS if is_decoder else ENCODERS)[family]
    config = getattr(transformers, name)(
        vocab_size=len(tokenizer) + N_SPARE_ROWS,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **settings,
    )
    auto = transformers.AutoModelForCausalLM if is_decoder else transformers.AutoModelForSequenceClassification
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = auto.from_config(config)
        with torch.no_grad():
            for parameter in (each for each in model.parameters() if each.dim() > 1):
                parameter += NOISE * torch.randn_like(parameter)
    (model if is_decoder else model.base_model).save_pretrained(folder)
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
