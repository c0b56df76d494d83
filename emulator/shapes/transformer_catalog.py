"""Transformers by name whose shapes can be priced, as their config.json has them; no weights come with them."""

from collections.abc import Mapping
from typing import Any

from emulator.shapes.decoder_catalog import DECODER_CONFIGS
from emulator.shapes.encoder_decoder_catalog import ENCODER_DECODER_CONFIGS

PRICED_TRANSFORMER = "roberta-base"
"""Whose shapes the devices pay for where a built-in transformer is trained."""

BUILTIN_DECODER = "builtin:tiny-llama-12"
PRICED_DECODER = "llama-160m"
"""The same where the built-in decoder is."""

_DEBERTA_V3 = {
    "vocab_size": 128100,
    "max_position_embeddings": 512,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}

TRANSFORMERS: Mapping[str, Mapping[str, Any]] = {
    **DECODER_CONFIGS,
    **ENCODER_DECODER_CONFIGS,
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
    # Devlin et al. 2019, section 3; config.json of google-bert/bert-large-uncased
    "bert-large": {
        "model_type": "bert",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    },
    # He et al. 2021, arXiv 2111.09543, section 5.1; config.json of microsoft/deberta-v3-base
    "deberta-v3-base": {
        "model_type": "deberta-v2",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        **_DEBERTA_V3,
    },
    # He et al. 2021, arXiv 2111.09543, section 5.1; config.json of microsoft/deberta-v3-large
    "deberta-v3-large": {
        "model_type": "deberta-v2",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        **_DEBERTA_V3,
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
}
