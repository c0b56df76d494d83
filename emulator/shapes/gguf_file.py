"""GGUF files, in which llama.cpp keeps a model with its tokenizer: what one says of the model's shapes.

The format is described in docs/gguf.md of ggml; the package ``gguf`` reads it.
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emulator.errors import ConfigError

ENDING = ".gguf"
FAMILIES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma2": "gemma2", "gemma3": "gemma3_text"}
"""``general.architecture`` -> ``model_type``, of the families that transformers loads from such files."""

_KEYS = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
}
"""What is behind the architecture's name in a key of the file -> key of a config.json."""


def gguf_config(file: Path, name: str) -> Mapping[str, Any]:
    """What a config.json would say of the shapes of the model in ``file``.

    Raises:
        ConfigError: the package ``gguf`` is not installed, it is no such file, or its family is not known.
    """
    if find_spec("gguf") is None:
        raise ConfigError(
            f"model {name}: {file.name!r} is a GGUF file, and reading it needs the package gguf, which is not "
            "installed; pip install 'jetbed[gguf]'"
        )
    return _config(file, name, file.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _config(file: Path, name: str, modified_ns: int) -> Mapping[str, Any]:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
    except (ValueError, OSError, IndexError, KeyError) as error:
        raise ConfigError(
            f"model {name}: cannot read {str(file)!r} as a GGUF file: {error}; copy it again, whole"
        ) from None
    architecture = _value(reader, "general.architecture")
    family = FAMILIES.get(str(architecture))
    if family is None:
        raise ConfigError(
            f"model {name}: {file.name!r} holds a model of the architecture {architecture!r}; GGUF files of these can "
            f"be used: {', '.join(FAMILIES)}; give others as a directory saved with save_pretrained"
        )
    found = {key: _value(reader, f"{architecture}.{end}") for end, key in _KEYS.items()}
    tokens = reader.get_field("tokenizer.ggml.tokens")
    if found["vocab_size"] is None and tokens is not None:
        found["vocab_size"] = len(tokens.data)
    return {
        "model_type": family,
        **{key: value for key, value in found.items() if value is not None},
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in reader.tensors),
        "has_tokenizer": tokens is not None,
    }


def _value(reader: Any, key: str) -> Any:
    """Of a field of one value; None where the file lacks it."""
    field = reader.get_field(key)
    return None if field is None else field.contents()
