"""Built-in models have the parameters that are published of them, and that transformers gives them."""

import pytest

from emulator.shapes.catalog import causal_spec, encoder_decoder_spec, model_spec, price_names
from emulator.shapes.decoder_catalog import DECODER_CONFIGS
from emulator.shapes.encoder_decoder_catalog import ENCODER_DECODER_CONFIGS
from emulator.shapes.spec import ModelSpec
from emulator.shapes.transformer_catalog import TRANSFORMERS

DECODERS = {
    # The total that the hub shows of each checkpoint's safetensors. Of a decoder of L layers, width d, V words, k wide
    # keys and values, and m channels: V d (twice where the head is not tied) + d, and in each layer 2 d² + 2 d k +
    # 3 d m + 2 d, with biases for query, key and value in Qwen2; Gemma 3 and Llama 3.2 have queries of their own width.
    "llama-160m": 162_417_408,
    "llama-2-7b": 6_738_415_616,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-7b": 7_615_616_512,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "gemma-3-1b": 999_885_952,
    "phi-3-mini": 3_821_079_552,
}
ENCODER_DECODERS = {
    # The total that the hub shows of each checkpoint's safetensors. With L layers in either stack, width d = 64 heads
    # and m channels: 32128 d (twice where the head is not tied) + L (12 d² + 4 d m + 5 d) + 2 (32 heads + d), and 6 d m
    # in the place of 4 d m where the MLP is gated.
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "flan-t5-base": 247_577_856,
}
ENCODERS = {
    # With a head for two classes: BERT (30522 + 512 + 2 + 2) d + L (12 d² + 13 d) + d² + d + 2 (d + 1); DeBERTa v3
    # (128100 + 2) d, 512 relative positions and their norm, the same layers, d² + d + 2 (d + 1)
    "bert-large": 335_143_938,
    "deberta-v3-base": 184_423_682,
    "deberta-v3-large": 435_063_810,
}


@pytest.mark.parametrize(("name", "n_parameters"), DECODERS.items())
def test_decoders_have_their_published_size(name: str, n_parameters: int) -> None:
    assert causal_spec(name, seq_len=128, response_len=16).n_parameters == n_parameters


@pytest.mark.parametrize(("name", "n_parameters"), ENCODERS.items())
def test_encoders_have_their_published_size(name: str, n_parameters: int) -> None:
    assert model_spec(name, n_labels=2, seq_len=128, head="full").n_parameters == n_parameters


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.slow
def test_transformers_counts_as_many(name: str) -> None:
    import torch
    import transformers

    spec: ModelSpec
    auto_class, n_own_head = "AutoModelForSequenceClassification", 0
    if name in DECODER_CONFIGS:
        spec, auto_class = causal_spec(name, seq_len=128, response_len=16), "AutoModelForCausalLM"
    elif name in ENCODER_DECODER_CONFIGS:
        spec, auto_class = encoder_decoder_spec(name, seq_len=128, response_len=16), "AutoModelForSeq2SeqLM"
        n_own_head = spec.n_frozen_head_parameters  # which transformers ties until a checkpoint has it
    else:
        spec = model_spec(name, n_labels=2, seq_len=128, head="full")
    config = transformers.AutoConfig.for_model(**TRANSFORMERS[name], num_labels=2)
    with torch.device("meta"):
        model = getattr(transformers, auto_class).from_config(config)
    assert spec.n_parameters == n_own_head + sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "n_parameters"), ENCODER_DECODERS.items())
def test_encoder_decoders_have_their_published_size(name: str, n_parameters: int) -> None:
    assert encoder_decoder_spec(name, seq_len=128, response_len=16).n_parameters == n_parameters


def test_every_transformer_is_a_price_and_every_decoder_has_its_size_here() -> None:
    assert set(price_names()) == {*TRANSFORMERS, "alexnet", "vgg16-bn"}
    assert set(DECODERS) == set(DECODER_CONFIGS)
    assert set(ENCODER_DECODERS) == set(ENCODER_DECODER_CONFIGS)
