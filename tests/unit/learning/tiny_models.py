"""Tiny random models of several families, and data for them, made without a download."""

from typing import Any

import numpy as np
import torch
from transformers import (
    AlbertConfig,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    MPNetConfig,
    Phi3Config,
    RobertaConfig,
    RobertaPreLayerNormConfig,
)
from transformers import AutoModelForSequenceClassification as AutoClassifier

from emulator.learning.data.tokens import TokenData
from emulator.learning.host import HostContent
from emulator.learning.model.loading import FrozenModel, load_model

VOCABULARY, SEQ_LEN, N_LABELS = 50, 16, 3
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": SEQ_LEN + 2,
    "pad_token_id": 0,
}
RELATIVE: dict[str, Any] = {
    "relative_attention": True,
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
CONFIGS = {
    "bert": BertConfig(**SHAPE),
    "roberta": RobertaConfig(**SHAPE),
    "roberta-prelayernorm": RobertaPreLayerNormConfig(**SHAPE),
    "distilbert": DistilBertConfig(
        vocab_size=VOCABULARY, dim=16, hidden_dim=32, n_layers=3, n_heads=2, max_position_embeddings=SEQ_LEN
    ),
    "camembert": CamembertConfig(**SHAPE),
    "llama": LlamaConfig(**SHAPE, num_key_value_heads=1),
    "mpnet": MPNetConfig(**SHAPE),
    "deberta-v3": DebertaV2Config(**SHAPE, **RELATIVE, share_att_key=True),
    "deberta-v2": DebertaV2Config(**SHAPE, **RELATIVE, share_att_key=False, conv_kernel_size=3),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_inner=32, n_layer=3, n_head=2, n_positions=SEQ_LEN, pad_token_id=0
    ),
    "phi3": Phi3Config(**SHAPE, num_key_value_heads=1),
    "modernbert": ModernBertConfig(
        **SHAPE, local_attention=8, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2
    ),
    "albert": AlbertConfig(**{**SHAPE, "num_hidden_layers": 6}, num_hidden_groups=3, embedding_size=4),
}
APART = [family for family in CONFIGS if family not in ("gpt2", "phi3", "modernbert")]
"""Families that store query, key and value each by itself."""
PRUNABLE = [family for family in APART if family not in ("mpnet", "deberta-v2", "deberta-v3")]
"""Families out of whose layers heads can be cut."""


def save_tiny_model(family: str, folder: Any) -> str:
    """Saves a base model without a classification head, as a hub checkpoint would be; returns its directory.

    Weights are larger than usual, so that every part of the model matters to the logits.
    """
    config = CONFIGS[family]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoClassifier.from_config(config)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.base_model.save_pretrained(folder)
    return str(folder)


def tiny_content(
    family: str, folder: Any, n_devices: int = 4, head: Any = "output", full: bool = False, seq_len: int = SEQ_LEN
) -> HostContent:
    """A tiny model with random token ids of varying lengths, 20 rows for every device; ``full``: no padding."""
    frozen: FrozenModel = load_model(save_tiny_model(family, folder), N_LABELS, seed=3, head=head)
    rng = np.random.default_rng(0)
    return HostContent(
        model=frozen,
        train=_tokens(rng, 20 * n_devices, full, seq_len),
        test=_tokens(rng, 50, full, seq_len),
        offsets=np.arange(0, 20 * n_devices + 1, 20),
    )


def _tokens(rng: np.random.Generator, n: int, full: bool, seq_len: int) -> TokenData:
    lengths = np.full(n, seq_len) if full else rng.integers(3, seq_len + 1, n)
    ids = rng.integers(1, VOCABULARY, (n, seq_len))
    ids[np.arange(seq_len) >= lengths[:, None]] = 0
    return TokenData(
        input_ids=ids.astype(np.int32), lengths=lengths.astype(np.int32), labels=rng.integers(0, N_LABELS, n)
    )
