"""Encoder-decoders by name whose shapes can be priced, as their config.json has them; no weights come with them."""

from collections.abc import Mapping
from typing import Any


def _t5(hidden_size: int, n_layers: int, n_heads: int, intermediate_size: int, **rest: Any) -> Mapping[str, Any]:
    """The config.json of a T5 with as many layers in either stack, heads of 64, and its vocabulary."""
    return {
        "model_type": "t5",
        "d_model": hidden_size,
        "d_kv": 64,
        "d_ff": intermediate_size,
        "num_layers": n_layers,
        "num_heads": n_heads,
        "vocab_size": 32128,
        "relative_attention_num_buckets": 32,
        **rest,
    }


ENCODER_DECODER_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    # Raffel et al. 2020, arXiv 1910.10683, section 3.7; config.json of google-t5/t5-small and google-t5/t5-base
    "t5-small": _t5(512, 6, 8, 2048, feed_forward_proj="relu"),
    "t5-base": _t5(768, 12, 12, 3072, feed_forward_proj="relu"),
    # Chung et al. 2022, arXiv 2210.11416, from T5 1.1, whose head is its own; config.json of google/flan-t5-base
    "flan-t5-base": _t5(768, 12, 12, 2048, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}
