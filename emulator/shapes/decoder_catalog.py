"""Decoders by name whose shapes can be priced, as their config.json has them; no weights come with them."""

from collections.abc import Mapping
from typing import Any


def _decoder(
    family: str, hidden_size: int, n_layers: int, heads: tuple[int, int], intermediate_size: int, **rest: Any
) -> Mapping[str, Any]:
    """The config.json of a decoder; ``heads`` are those of queries, and of keys and values."""
    return {
        "model_type": family,
        "hidden_size": hidden_size,
        "num_hidden_layers": n_layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": intermediate_size,
        **rest,
    }


_LLAMA_2 = {"vocab_size": 32000, "max_position_embeddings": 4096, "tie_word_embeddings": False}
_LLAMA_3_2 = {"vocab_size": 128256, "max_position_embeddings": 131072, "tie_word_embeddings": True}
_QWEN = {"vocab_size": 151936, "tie_word_embeddings": True}
_SMOLLM2 = {"vocab_size": 49152, "max_position_embeddings": 8192, "tie_word_embeddings": True}
_GEMMA_3 = {"head_dim": 256, "vocab_size": 262144, "max_position_embeddings": 32768, "tie_word_embeddings": True}
_PHI_3 = {"vocab_size": 32064, "max_position_embeddings": 4096, "tie_word_embeddings": False}

DECODER_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    # Miao et al. 2024 (SpecInfer), arXiv 2305.09781, a LLaMA of 160 million; config.json of JackFram/llama-160m
    "llama-160m": _decoder(
        "llama",
        768,
        12,
        (12, 12),
        3072,
        vocab_size=32000,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    ),
    # Touvron et al. 2023, arXiv 2307.09288; config.json of meta-llama/Llama-2-7b-hf
    "llama-2-7b": _decoder("llama", 4096, 32, (32, 32), 11008, **_LLAMA_2),
    # Grattafiori et al. 2024, arXiv 2407.21783; config.json of meta-llama/Llama-3.2-1B and -3B
    "llama-3.2-1b": _decoder("llama", 2048, 16, (32, 8), 8192, head_dim=64, **_LLAMA_3_2),
    "llama-3.2-3b": _decoder("llama", 3072, 28, (24, 8), 8192, head_dim=128, **_LLAMA_3_2),
    # Qwen Team 2024, arXiv 2412.15115, table 1; config.json of Qwen/Qwen2.5-0.5B, -1.5B and -7B
    "qwen2.5-0.5b": _decoder("qwen2", 896, 24, (14, 2), 4864, max_position_embeddings=32768, **_QWEN),
    "qwen2.5-1.5b": _decoder("qwen2", 1536, 28, (12, 2), 8960, max_position_embeddings=131072, **_QWEN),
    "qwen2.5-7b": _decoder(
        "qwen2",
        3584,
        28,
        (28, 4),
        18944,
        vocab_size=152064,
        max_position_embeddings=131072,
        tie_word_embeddings=False,
    ),
    # Ben Allal et al. 2025, arXiv 2502.02737; config.json of HuggingFaceTB/SmolLM2-135M and -360M
    "smollm2-135m": _decoder("llama", 576, 30, (9, 3), 1536, **_SMOLLM2),
    "smollm2-360m": _decoder("llama", 960, 32, (15, 5), 2560, **_SMOLLM2),
    # Gemma Team 2025, arXiv 2503.19786; config.json of google/gemma-3-1b-pt
    "gemma-3-1b": _decoder("gemma3_text", 1152, 26, (4, 1), 6912, **_GEMMA_3),
    # Abdin et al. 2024, arXiv 2404.14219; config.json of microsoft/Phi-3-mini-4k-instruct
    "phi-3-mini": _decoder("phi3", 3072, 32, (32, 32), 8192, **_PHI_3),
}
