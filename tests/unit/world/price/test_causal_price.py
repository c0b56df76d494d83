"""The price of a causal language model: the head over the learnt tokens, and what their loss keeps."""

from typing import Any

import pytest

from emulator.errors import ConfigError
from emulator.forms.lora import low_rank_adapters
from emulator.records import NO_ADAPTERS, Work, WorkKind
from emulator.shapes.catalog import causal_spec, causal_spec_from_config, model_spec_from_config
from emulator.shapes.causal import CausalSpec
from emulator.world.price.memory import peak_memory
from emulator.world.price.step_kinds import step_of

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 160,
    "vocab_size": 1000,
    "max_position_embeddings": 130,
}


def spec(seq_len: int = 32, response_len: int = 8, **changed: Any) -> CausalSpec:
    return causal_spec_from_config({**LLAMA, **changed}, name="tiny", seq_len=seq_len, response_len=response_len)


def work(model: CausalSpec, depth: int = 3, batch_size: int = 4, **changed: Any) -> Work:
    adapters = low_rank_adapters(model, ("query", "value"), (0,) * (3 - depth) + (4,) * depth)
    return Work(
        n_steps=1,
        batch_size=batch_size,
        seq_len=model.seq_len,
        forward_layers=3,
        backward_layers=depth,
        **({"adapters": adapters} | changed),
    )


def test_the_head_costs_two_flop_for_each_weight_and_learnt_token_and_its_input_s_gradient_as_much() -> None:
    short, long = spec(response_len=8), spec(response_len=9)
    costs = [step_of(model, work(model)) for model in (short, long)]
    # 4 examples have one learnt token more, over 64 x 1000 weights that are frozen
    assert costs[1].forward_flop - costs[0].forward_flop == 2 * 4 * 64 * 1000
    assert costs[1].backward_flop - costs[0].backward_flop == 2 * 4 * 64 * 1000


def test_a_learnt_token_keeps_a_number_for_each_word() -> None:
    short, long = spec(response_len=8), spec(response_len=9)
    kept = [peak_memory(model, work(model), "fp32").activations_bytes for model in (short, long)]
    assert kept[1] - kept[0] == 4 * (4 * 1000 + 3 * 8)  # and three indices


def test_a_large_vocabulary_is_what_a_step_has_at_once() -> None:
    large = spec(vocab_size=150_000)
    assert peak_memory(large, work(large), "fp32").workspace_bytes == 2 * 4 * 4 * 8 * 150_000


def test_a_head_that_is_the_embeddings_has_no_parameters_of_its_own() -> None:
    tied, untied = spec(tie_word_embeddings=True), spec(tie_word_embeddings=False)
    assert untied.n_parameters - tied.n_parameters == 64 * 1000
    flop = [step_of(model, work(model)).forward_flop for model in (tied, untied)]
    assert flop[0] == flop[1]


def test_at_another_length_the_response_has_the_same_share() -> None:
    assert spec(seq_len=32, response_len=8).with_seq_len(128).response_len == 32
    assert spec(seq_len=32, response_len=1).with_seq_len(8).response_len == 1


def test_inference_and_a_classifier_keep_no_logits() -> None:
    model = spec()
    assert peak_memory(model, work(model, depth=0, kind=WorkKind.INFERENCE), "fp32").activations_bytes == 0
    classifier = model_spec_from_config(LLAMA, name="tiny", n_labels=2, seq_len=32, head="output")
    assert classifier.n_logits(32) == 0


def test_an_encoder_is_no_causal_language_model() -> None:
    with pytest.raises(ConfigError, match="bert model, which gives no next word"):
        causal_spec("bert-base", seq_len=32, response_len=8)
    with pytest.raises(ConfigError, match="is a convnet"):
        causal_spec("alexnet", seq_len=32, response_len=8)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("vocabulary", "depth", "response_len"), [(1000, 3, 20), (32_000, 3, 8), (150_000, 1, 4)])
def test_what_is_kept_is_what_pytorch_keeps(attention: str, vocabulary: int, depth: int, response_len: int) -> None:
    from tests.unit.world.price.autograd_probe import run_causal_step

    model = spec(seq_len=64, response_len=response_len, vocab_size=vocabulary)
    asked = work(model, depth)
    use = peak_memory(model, asked, "fp32", attention="eager" if attention == "eager" else "sdpa")
    probe = run_causal_step({**LLAMA, "vocab_size": vocabulary, "pad_token_id": 0}, asked, response_len, attention)
    assert use.activations_bytes == pytest.approx(probe.kept_bytes, rel=0.05)
    if attention == "sdpa":
        return  # torch does not count what its kernels compute on a CPU
    step = step_of(model, asked)
    assert step.forward_flop == pytest.approx(probe.forward_flop, rel=0.01)
    assert step.backward_flop == pytest.approx(probe.backward_flop, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize(
    ("kind", "depth"), [(WorkKind.WEIGHTS, 3), (WorkKind.LAYERS, 3), (WorkKind.WEIGHTS, 1), (WorkKind.LAYERS, 1)]
)
def test_full_fine_tuning_keeps_what_pytorch_keeps(kind: WorkKind, depth: int, is_tied: bool, attention: str) -> None:
    from tests.unit.world.price.autograd_probe import run_causal_step

    model = spec(seq_len=64, response_len=20, vocab_size=4000, tie_word_embeddings=is_tied)
    asked = work(model, depth, adapters=NO_ADAPTERS, kind=kind)
    use = peak_memory(model, asked, "fp32", attention="eager" if attention == "eager" else "sdpa")
    config = {**LLAMA, "vocab_size": 4000, "pad_token_id": 0, "tie_word_embeddings": is_tied}
    probe = run_causal_step(config, asked, 20, attention)
    assert use.activations_bytes == pytest.approx(probe.kept_bytes, rel=0.05)
    if attention == "eager":
        step = step_of(model, asked)
        assert step.forward_flop == pytest.approx(probe.forward_flop, rel=0.01)
        assert step.backward_flop == pytest.approx(probe.backward_flop, rel=0.01)
