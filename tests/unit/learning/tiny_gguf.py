"""A tiny Llama as a GGUF file, as convert_hf_to_gguf.py of llama.cpp writes one, made without a download."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter, TokenType
from numpy.typing import NDArray
from safetensors.numpy import load_file

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def save_tiny_gguf(folder: Path, file: Path, architecture: str = "llama") -> str:
    """Writes the Llama that :func:`save_tiny_decoder` has saved in ``folder`` to ``file``; returns its path."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    writer = GGUFWriter(file, architecture)
    writer.add_name("tiny")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    _add_tokenizer(writer, json.loads((folder / "tokenizer.json").read_text("utf-8")), config["vocab_size"])
    for name, array in load_file(folder / "model.safetensors").items():
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
        key = next((key for projection, key in heads.items() if projection in name), None)
        writer.add_tensor(_name(name), array if key is None else _interleaved(array, config[key]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(file)


def _add_tokenizer(writer: GGUFWriter, tokenizer: Any, vocabulary_size: int) -> None:
    words = {number: word for word, number in tokenizer["model"]["vocab"].items()}
    special = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    special[vocabulary_size - 1] = "<|endoftext|>"  # which transformers would add to a vocabulary of this kind
    numbers = range(vocabulary_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([special.get(number, words.get(number, f"[PAD{number}]")) for number in numbers])
    kinds = (TokenType.CONTROL, TokenType.NORMAL, TokenType.UNUSED)
    writer.add_token_types([kinds[0 if each in special else 1 if each in words else 2] for each in numbers])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


def _name(name: str) -> str:
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    path = name.removesuffix(".weight")
    if path in whole:
        return f"{whole[path]}.weight"
    _, _, layer, own = path.split(".", 3)
    return f"blk.{layer}.{NAMES[own]}.weight"


def _interleaved(weight: NDArray[Any], n_heads: int) -> NDArray[Any]:
    """llama.cpp rotates neighbouring coordinates of a head, transformers those of its two halves."""
    by_half = weight.reshape(n_heads, 2, -1, weight.shape[1])
    return np.ascontiguousarray(by_half.swapaxes(1, 2)).reshape(weight.shape)
