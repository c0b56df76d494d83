"""The price of an encoder-decoder: two stacks at two lengths, and attention from one to the other."""

from dataclasses import replace
from typing import Any

import pytest

from device_profiles.catalog import load_profile
from emulator.errors import ConfigError
from emulator.forms.lora import LoraForm, lora_assignment, low_rank_adapters
from emulator.records import Adapters, MemorySavers, TrainingDefaults, Work, WorkKind
from emulator.seeds import Seeds
from emulator.shapes.catalog import encoder_decoder_spec, encoder_decoder_spec_from_config, model_spec
from emulator.shapes.encoder_decoder import EncoderDecoderSpec
from emulator.world.price.memory import peak_memory
from emulator.world.price.price_bands import price_step
from emulator.world.price.step_kinds import step_of

T5: dict[str, Any] = {
    "model_type": "t5",
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 160,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "vocab_size": 1000,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
}
GATED = T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
EVERYWHERE = ("query", "key", "value", "attention_output", "mlp_up", "mlp_down")


def spec(seq_len: int = 48, response_len: int = 12, **changed: Any) -> EncoderDecoderSpec:
    return encoder_decoder_spec_from_config(T5 | changed, name="tiny", seq_len=seq_len, response_len=response_len)


def work(
    model: EncoderDecoderSpec, depth: int = 5, targets: tuple[str, ...] = ("query", "value"), **changed: Any
) -> Work:
    ranks = (0,) * (model.n_layers - depth) + (4,) * depth
    given = {
        "n_steps": 1,
        "batch_size": 4,
        "seq_len": model.seq_len,
        "forward_layers": model.n_layers,
        "backward_layers": depth,
        "adapters": low_rank_adapters(model, model.stored(targets), ranks),
    }
    return Work(**(given | changed))


def test_a_token_of_a_prompt_costs_the_encoder_s_layers_and_the_keys_and_values_that_the_decoder_makes_of_it() -> None:
    short, long = spec(seq_len=48), spec(seq_len=49)
    cost = [step_of(model, work(model, depth=0, adapters=Adapters())).forward_flop for model in (short, long)]
    matrices = 2 * (4 * 64 * 64 + 2 * 64 * 160) + 3 * 2 * 64 * 64
    own_scores, scores = 2 * 2 * 2 * 64 * (49**2 - 48**2), 3 * 2 * 2 * 64 * 12  # two products, 2 and 3 layers
    assert cost[1] - cost[0] == 4 * (2 * matrices + own_scores + scores)


def test_a_token_of_a_response_costs_the_decoder_s_layers_and_the_head() -> None:
    short, long = spec(response_len=12), spec(response_len=13)
    cost = [step_of(model, work(model, depth=0, adapters=Adapters())).forward_flop for model in (short, long)]
    matrices = 3 * (6 * 64 * 64 + 2 * 64 * 160) + 64 * 1000
    own_scores, scores = 3 * 2 * 2 * 64 * (13**2 - 12**2), 3 * 2 * 2 * 64 * 48
    assert cost[1] - cost[0] == 4 * (2 * matrices + own_scores + scores)


def test_the_encoder_has_no_backward_pass_while_the_decoder_alone_is_trained() -> None:
    model = spec()
    for depth in (1, 2, 3):
        longer = spec(seq_len=96)
        apart = [step_of(each, work(each, depth)) for each in (model, longer)]
        # Of the prompt's length, the backward pass knows the products with it and the adapters on its values.
        per_token = apart[1].backward_flop - apart[0].backward_flop
        # Scores, queries and values need a gradient, keys none; each cross value has an adapter of rank 4.
        products = depth * 3 * 2 * 12 * 64
        adapters = depth * 4 * 2 * (2 * 64 + 64)
        assert per_token == 4 * 48 * (products + adapters)


def test_a_layer_of_the_encoder_sends_its_gradient_through_all_of_the_decoder() -> None:
    model = spec()
    three, four = (step_of(model, work(model, depth)).memory().activations_bytes for depth in (3, 4))
    longer = spec(seq_len=96)
    three_longer, four_longer = (step_of(longer, work(longer, depth)).memory().activations_bytes for depth in (3, 4))
    # Beside a layer's own, the encoder's last norm keeps its input, and each layer of the decoder its query.
    assert four - three > 4 * 4 * (48 * 65 + 3 * 12 * 64)
    assert four_longer - three_longer > four - three


def test_payloads_count_the_matrices_that_each_layer_has() -> None:
    model = spec()
    form = LoraForm(ranks=(4,) * 5)
    training = TrainingDefaults(n_steps=1, batch_size=4, learning_rate=1e-3)
    # A query or a value takes 4 (64 + 64) numbers; layers of the encoder have two, of the decoder four.
    each = 4 * 4 * (64 + 64)
    for depth, n_uploaded in ((1, 4), (3, 12), (4, 14), (5, 16)):
        asked = lora_assignment(0, training, form.ranks, depth)
        assert form.upload_bytes(asked, model) == n_uploaded * each
        assert form.download_bytes(asked, model) == 16 * each
        step = step_of(model, form.work(asked, model))
        assert 4 * step.n_trained_parameters == n_uploaded * each
        assert 4 * step.n_held_parameters == 16 * each
    state = form.initial(model, Seeds(3))
    assert sum(array.nbytes for array in state.values()) == 16 * each
    frozen_a = replace(form, trains_a=False)
    asked = lora_assignment(0, training, form.ranks, 5)
    assert frozen_a.download_bytes(asked, model) == 16 * each // 2
    assert frozen_a.extra_download_bytes(asked, model) == -16 * each // 2


def test_inference_keeps_nothing_and_full_fine_tuning_is_not_priced() -> None:
    model = spec()
    asked = work(model, depth=0, kind=WorkKind.INFERENCE)
    assert step_of(model, asked).memory().activations_bytes == 0
    assert step_of(model, asked).backward_flop == 0
    with pytest.raises(ValueError, match="adapters alone are priced"):
        step_of(model, work(model, kind=WorkKind.WEIGHTS))


def test_weights_are_held_as_they_are_stored() -> None:
    model = spec(tie_word_embeddings=False)
    plain, half = (
        step_of(model, work(model, 0), savers=MemorySavers(base_precision=precision)).memory().weights_bytes
        for precision in ("float32", "bfloat16")
    )
    assert plain == 4 * model.n_parameters
    assert half == 2 * model.n_parameters


def test_passes_of_fewer_examples_compute_as_much() -> None:
    model = spec()
    once, twice = (step_of(model, work(model), savers=MemorySavers(accumulation_steps=n)) for n in (1, 2))
    assert twice.demand().forward_flop == pytest.approx(once.demand().forward_flop)
    assert twice.memory().activations_bytes < 0.51 * once.memory().activations_bytes


def test_it_is_priced_on_a_board_like_any_other() -> None:
    model = encoder_decoder_spec("t5-base", seq_len=128, response_len=32)
    profile = load_profile("jetson_tx2")
    mode = profile.mode(profile.default_mode)
    shallow, deep = (price_step(profile, mode, model, work(model, depth), "fp32") for depth in (6, 24))
    assert deep.step_s.value > 1.5 * shallow.step_s.value
    # 222,903,552 parameters, and at rank 4 six layers of the decoder with 4 x 4 (768 + 768) numbers each
    assert shallow.memory.weights_bytes == 4 * (222_903_552 + 6 * 4 * 4 * 2 * 768)
    assert shallow.upload_bytes == 4 * 6 * 4 * 4 * 2 * 768


@pytest.mark.parametrize("depth", [1, 6, 12, 13, 24])
@pytest.mark.parametrize(
    "savers", [MemorySavers(), MemorySavers(checkpointing=True), MemorySavers(accumulation_steps=2)]
)
def test_what_an_allocator_holds_is_about_what_is_counted(depth: int, savers: MemorySavers) -> None:
    model = encoder_decoder_spec("flan-t5-base", seq_len=128, response_len=32)
    asked = work(model, depth)
    counted = step_of(model, asked, savers=savers).memory()
    least_bytes = counted.weights_bytes + counted.activations_bytes
    held_bytes = peak_memory(model, asked, "fp32", savers=savers).total_bytes
    assert least_bytes < held_bytes < 1.15 * counted.total_bytes


def test_another_length_of_prompts_has_responses_in_the_same_proportion() -> None:
    assert spec(48, 12).with_seq_len(96).response_len == 24
    assert spec(48, 1).with_seq_len(8).response_len == 1
    assert spec(48, 96).with_seq_len(96).response_len == 192  # which may be longer than prompts


def test_other_families_are_no_encoder_decoders_and_t5_is_nothing_else() -> None:
    with pytest.raises(ConfigError, match=r"roberta model, which is no encoder-decoder; .* t5, mt5"):
        encoder_decoder_spec("roberta-base", seq_len=32, response_len=8)
    with pytest.raises(ConfigError, match="is a convnet, which gives no words"):
        encoder_decoder_spec("alexnet", seq_len=32, response_len=8)
    with pytest.raises(ConfigError, match=r"encoder-decoders, which learn with task.kind = 'seq2seq' alone"):
        model_spec("t5-small", n_labels=2, seq_len=32, head="output")
    with pytest.raises(ConfigError, match="feed_forward_proj, such as 'relu' or 'gated-gelu', got 'twice-relu'"):
        spec(feed_forward_proj="twice-relu")


SETTINGS: list[tuple[dict[str, Any], int, int, int, tuple[str, ...]]] = [
    (T5, 1, 48, 12, ("query", "value")),
    (T5, 3, 48, 12, ("query", "value")),
    (T5, 4, 48, 12, ("query", "value")),
    (T5, 5, 48, 12, ("query", "value")),
    (GATED, 1, 48, 12, ("query", "value")),
    (GATED, 5, 48, 12, ("query", "value")),
    (GATED | {"model_type": "mt5"}, 4, 16, 40, ("query", "value")),
    (T5 | {"vocab_size": 32_000}, 3, 64, 16, ("query", "value")),
    (T5, 5, 48, 12, EVERYWHERE),
    (GATED, 2, 48, 12, (*EVERYWHERE, "mlp_gate")),
    (T5, 3, 48, 12, ("query",)),
    (T5, 2, 48, 12, ("cross_value",)),
    (T5, 2, 48, 12, ("mlp_up",)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("config", "depth", "seq_len", "response_len", "targets"), SETTINGS)
def test_what_is_kept_and_computed_is_what_pytorch_keeps_and_computes(
    config: dict[str, Any], depth: int, seq_len: int, response_len: int, targets: tuple[str, ...]
) -> None:
    from tests.unit.world.price.seq2seq_probe import run_seq2seq_step

    model = spec(seq_len, response_len, **config)
    asked = work(model, depth, targets)
    step, probe = step_of(model, asked), run_seq2seq_step(config, asked, response_len)
    assert step.memory().activations_bytes == pytest.approx(probe.kept_bytes, rel=0.01)
    assert step.forward_flop == pytest.approx(probe.forward_flop, rel=0.001)
    assert step.backward_flop == pytest.approx(probe.backward_flop, rel=0.001)
    demand = step.demand()
    assert demand.n_forward_operations == pytest.approx(probe.n_forward_operations, rel=0.02)
    assert demand.n_backward_operations == pytest.approx(probe.n_backward_operations, rel=0.3)
    if config.get("vocab_size", 0) == T5["vocab_size"]:  # the probe counts tables of words whole
        assert demand.forward_element_bytes / 4 == pytest.approx(probe.n_forward_elements, rel=0.1)
        assert demand.backward_element_bytes / 4 == pytest.approx(probe.n_backward_elements, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(("config", "depth"), [(T5, 5), (T5, 2), (GATED, 3), (GATED, 4)])
def test_with_checkpointing_layers_keep_what_they_are_given(config: dict[str, Any], depth: int) -> None:
    from tests.unit.world.price.seq2seq_probe import run_seq2seq_step

    model, savers = spec(**config), MemorySavers(checkpointing=True)
    asked = work(model, depth)
    use = step_of(model, asked, savers=savers).memory()
    assert use.activations_bytes == pytest.approx(
        run_seq2seq_step(config, asked, 12, savers=savers).kept_bytes, rel=0.05
    )


@pytest.mark.slow
@pytest.mark.parametrize(("config", "depth"), [(T5, 5), (GATED, 3)])
def test_dropout_keeps_a_mask_of_all_that_it_may_drop(config: dict[str, Any], depth: int) -> None:
    from tests.unit.world.price.seq2seq_probe import run_seq2seq_step

    model = spec(**config)
    asked = work(model, depth)
    plain, dropped = (step_of(model, asked).memory(dropout=dropout).activations_bytes for dropout in (False, True))
    n_softmax = min(depth, 3) * 4 * (12 * 12 + 12 * 48) + max(depth - 3, 0) * 4 * 48 * 48
    n_masked = dropped - plain - 4 * 4 * n_softmax  # a byte each on a GPU, where a CPU has a number of four
    probe = run_seq2seq_step(config, asked, 12, dropout=True)
    assert dropped + 3 * n_masked == pytest.approx(probe.kept_bytes, rel=0.05)
