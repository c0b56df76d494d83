"""Transformers by name whose shapes can be priced, as their config.json has them; no weights come with them."""

from collections.abc import Mapping
from typing import Any

PRICED_TRANSFORMER = "roberta-base"
"""Whose shapes the devices pay for where a built-in transformer is trained."""

BUILTIN_DECODER = "builtin:tiny-llama-12"
PRICED_DECODER = "llama-160m"
"""The same where the built-in decoder is."""

TRANSFORMERS: Mapping[str, Mapping[str, Any]] = {
    # Devlin et al. 2019, arXiv 1810.04805, section 3; config.json of google-bert/bert-base-uncased
    "bert-base": {
        "model_type": "bert",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    },
    # Sanh et al. 2019, arXiv 1910.01108, section 3; config.json of distilbert/distilbert-base-uncased
    "distilbert": {
        "model_type": "distilbert",
        "dim": 768,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 3072,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
    },
    # Liu et al. 2019, arXiv 1907.11692, table 9; config.json of FacebookAI/roberta-base
    "roberta-base": {
        "model_type": "roberta",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
    },
    # Liu et al. 2019, arXiv 1907.11692, table 9; config.json of FacebookAI/roberta-large
    "roberta-large": {
        "model_type": "roberta",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
    },
    # Miao et al. 2024 (SpecInfer), arXiv 2305.09781, a LLaMA of 160 million; config.json of JackFram/llama-160m
    "llama-160m": {
        "model_type": "llama",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    },
}
