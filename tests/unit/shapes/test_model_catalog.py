"""Named models have the shapes and the parameter counts that transformers gives them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from emulator.errors import ConfigError
from emulator.shapes.catalog import causal_spec, family_names, model_spec, model_spec_from_config
from emulator.shapes.families import ENCODER_DECODERS

_SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 111,
    "max_position_embeddings": 66,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2}
_OPT = {key: size for key, size in _SIZES.items() if key != "intermediate_size"} | {"ffn_dim": 96}
_GPT2 = {"n_embd": 48, "n_layer": 3, "n_head": 4, "vocab_size": 111, "n_positions": 66, "pad_token_id": 0}
_WORDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
_RELATIVE = {
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_DISTILBERT = {
    "dim": 48,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 96,
    "vocab_size": 111,
    "max_position_embeddings": 66,
}

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "bert": {"model_type": "bert", **_SIZES},
    "roberta": {"model_type": "roberta", **_SIZES, "type_vocab_size": 1},
    "xlm-roberta": {"model_type": "xlm-roberta", **_SIZES},
    "camembert": {"model_type": "camembert", **_SIZES},
    "roberta-prelayernorm": {"model_type": "roberta-prelayernorm", **_SIZES},
    "distilbert": {"model_type": "distilbert", **_DISTILBERT},
    "electra": {"model_type": "electra", **_SIZES, "embedding_size": 48},
    "electra with narrow embeddings": {"model_type": "electra", **_SIZES, "embedding_size": 16},
    "deberta-v2": {"model_type": "deberta-v2", **_SIZES},
    "deberta-v2 with shared relative positions": {"model_type": "deberta-v2", **_SIZES, **_RELATIVE},
    "deberta-v2 with maps for positions": {
        "model_type": "deberta-v2",
        **_SIZES,
        **_RELATIVE,
        "share_att_key": False,
        "pos_att_type": "c2p|p2c",
        "max_relative_positions": 20,
        "position_buckets": -1,
    },
    "deberta-v2 with a convolution": {"model_type": "deberta-v2", **_SIZES, **_RELATIVE, "conv_kernel_size": 3},
    "deberta-v2 with narrow embeddings": {"model_type": "deberta-v2", **_SIZES, "embedding_size": 16},
    "mpnet": {"model_type": "mpnet", **_SIZES},
    "llama": {"model_type": "llama", **_GROUPED},
    "llama with biases": {"model_type": "llama", **_GROUPED, "attention_bias": True, "mlp_bias": True},
    "llama with wide heads": {"model_type": "llama", **_GROUPED, "head_dim": 16, "tie_word_embeddings": True},
    "llama without groups": {"model_type": "llama", **_SIZES},
    "mistral": {"model_type": "mistral", **_GROUPED},
    "qwen2": {"model_type": "qwen2", **_GROUPED},
    "qwen3": {"model_type": "qwen3", **_GROUPED, "head_dim": 16},
    "gemma": {"model_type": "gemma", **_GROUPED, "num_key_value_heads": 1, "head_dim": 16},
    "gemma2": {"model_type": "gemma2", **_GROUPED, "head_dim": 16},
    "gemma3_text": {"model_type": "gemma3_text", **_GROUPED, "head_dim": 16},
    "phi3": {"model_type": "phi3", **_GROUPED, "pad_token_id": 0},
    "gpt2": {"model_type": "gpt2", **_GPT2},
    "gpt2 with narrow channels": {"model_type": "gpt2", **_GPT2, "n_inner": 40},
    "modernbert": {"model_type": "modernbert", **_SIZES, **_WORDS},
    "modernbert with biases": {
        "model_type": "modernbert",
        **_SIZES,
        **_WORDS,
        "attention_bias": True,
        "mlp_bias": True,
        "norm_bias": True,
        "classifier_bias": True,
    },
    "albert": {"model_type": "albert", **_SIZES, "embedding_size": 16},
    "albert in groups": {"model_type": "albert", **_SIZES, "num_hidden_layers": 6, "num_hidden_groups": 3},
    "opt": {"model_type": "opt", **_OPT},
    "opt with narrow embeddings": {
        "model_type": "opt",
        **_OPT,
        "word_embed_proj_dim": 16,
        "do_layer_norm_before": False,
    },
    "opt without biases": {"model_type": "opt", **_OPT, "enable_bias": False, "layer_norm_elementwise_affine": False},
}


def spec(config: Mapping[str, Any], head: Any = "full", seq_len: int = 32) -> Any:
    return model_spec_from_config(config, name="a model", n_labels=5, seq_len=seq_len, head=head)


@pytest.mark.parametrize(
    ("name", "n_parameters"),
    [
        # embeddings, layers and head: BERT (30522 + 512 + 2 + 2) 768 + 12 · 7 087 872 + 768² + 768 + 2 · 769;
        # DistilBERT without token types and with 6 layers; RoBERTa (50265 + 514 + 1 + 2) 768 + ...; large with
        # 1024 in place of 768 and 24 layers of 12 596 224
        ("bert-base", 109_483_778),
        ("distilbert", 66_955_010),
        ("roberta-base", 124_647_170),
        ("roberta-large", 355_361_794),
    ],
)
def test_built_in_models_have_their_published_size(name: str, n_parameters: int) -> None:
    for head in ("full", "output"):
        assert model_spec(name, n_labels=2, seq_len=128, head=head).n_parameters == n_parameters


def test_the_priced_decoder_has_its_published_size() -> None:
    # embeddings and head 2 * 32000 * 768; 12 layers of 4 * 768^2 + 3 * 768 * 3072 and two norms; the last norm
    decoder = causal_spec("llama-160m", seq_len=128, response_len=16)
    assert decoder.n_parameters == 162_417_408


def test_the_head_of_roberta_is_larger_than_all_its_adapters() -> None:
    full = model_spec("roberta-base", n_labels=4, seq_len=128, head="full")
    output = model_spec("roberta-base", n_labels=4, seq_len=128, head="output")
    assert full.n_head_parameters == 593_668  # 768² + 768 and 4 · 768 + 4
    assert (output.n_head_parameters, output.n_frozen_head_parameters) == (4 * 768 + 4, 768 * 768 + 768)
    assert list(full.head) == ["classifier.dense", "classifier.out_proj"]
    assert list(output.head) == ["classifier.out_proj"]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.slow
def test_parameters_are_counted_as_transformers_counts_them(config: Mapping[str, Any]) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch_config = AutoConfig.for_model(**config, num_labels=5)
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(torch_config)
    parameters = dict(model.named_parameters())
    ours = spec(config)
    assert ours.n_parameters == sum(parameter.numel() for parameter in parameters.values())
    assert spec(torch_config.to_dict(), "output").n_parameters == ours.n_parameters
    for path, shape in ours.head.items():
        assert parameters[f"{path}.weight"].shape == (shape.out_features, shape.in_features)
        assert (f"{path}.bias" in parameters) == shape.has_bias


def test_every_family_is_among_those_that_are_compared_with_transformers() -> None:
    of_one_stack = {config["model_type"] for config in CONFIGS.values()}
    assert of_one_stack | set(ENCODER_DECODERS) == set(family_names())


def test_a_decoder_has_grouped_keys_and_a_gate() -> None:
    llama = spec(CONFIGS["llama"])
    assert (llama.matrix("key").out_features, llama.matrix("query").out_features) == (24, 48)
    assert "mlp_gate" in llama.matrices
    assert not llama.matrix("query").has_bias


def test_a_directory_is_read_without_transformers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["roberta"]))
    model = model_spec(str(tmp_path), n_labels=5, seq_len=32, head="full")
    assert (model.n_layers, model.hidden_size, model.seq_len, model.name) == (3, 48, 32, str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "robert-base",
            r"there is no model 'robert-base'; did you mean roberta-base\?; give one of alexnet, bert-base, ",
        ),
        ("./nowhere", r"there is no directory './nowhere'; give a directory with config.json .*, a hub id"),
        ("builtin:huge", r"model builtin:huge: the directory has no config.json"),
    ],
)
def test_an_unknown_model_is_answered_with_what_there_is(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_spec(name, n_labels=2, seq_len=32, head="full")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model_type": "bart"},
            r"model a model: models of the family 'bart' cannot be used; those of these families can: bert, .*, opt$",
        ),
        ({"model_type": None}, r"config.json needs model_type, a text, got None"),
        ({"hidden_size": None}, r"config.json needs hidden_size, a whole number, got None"),
        ({"vocab_size": "many"}, r"config.json needs vocab_size, a whole number, got 'many'"),
        (
            {"max_position_embeddings": 33},
            r"data.seq_len: model a model takes at most 31 tokens, got a sequence length of 32",
        ),
    ],
)
def test_a_config_that_does_not_do_says_why(change: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec({**CONFIGS["roberta"], **change})


def test_a_config_that_is_not_json_says_where(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config.json' is not JSON"):
        model_spec(str(tmp_path), n_labels=2, seq_len=32, head="full")
