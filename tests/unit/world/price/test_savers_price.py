"""What savers of memory cost and save: by hand, and as PyTorch keeps it."""

from dataclasses import replace
from typing import Any

import pytest

from emulator.records import (
    ADAMW,
    NO_ADAPTERS,
    NO_SAVERS,
    LocalOptimizer,
    MemorySavers,
    TrainingDefaults,
    WorkKind,
)
from emulator.shapes.catalog import causal_spec
from emulator.world.price.memory import peak_memory
from emulator.world.price.optimizer import held_bytes, moved_bytes
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_time import step_time
from emulator.world.pricing import Pricing
from tests.unit.world.price.test_causal_price import LLAMA, spec, work
from tests.unit.world.price.test_step_time import MODE, ROBERTA, B, H, R, S, lora

NF4, BFLOAT16 = MemorySavers(base_precision="nf4"), MemorySavers(base_precision="bfloat16")
CHECKPOINTING = MemorySavers(checkpointing=True)
FF = 3072
MATRICES = 12 * (4 * H * H + 2 * H * FF)
"""Weights of RoBERTa-base's matrices."""


def passes(n: int, **others: Any) -> MemorySavers:
    return MemorySavers(accumulation_steps=n, **others)


def test_the_base_takes_what_its_weights_are_stored_in() -> None:
    work = lora(2)
    whole = peak_memory(ROBERTA, work, "fp32").weights_bytes
    n_adapters = 2 * 2 * 2 * R * H
    n_trained = n_adapters + ROBERTA.n_head_parameters
    n_others = ROBERTA.n_parameters - ROBERTA.n_head_parameters - MATRICES
    assert whole == 4 * (MATRICES + n_others + n_trained)
    n_rows = 12 * (5 * H + FF)  # of query, key, value, output and down; of up
    by_hand = {
        "bfloat16": 2 * MATRICES + 2 * n_others + 4 * n_trained,
        "int8": MATRICES + 4 * n_rows + 2 * n_others + 4 * n_trained,
        # QLoRA: 4 bits, 8 for 64 weights, 32 for 256 of these; 4.127 bits
        "nf4": MATRICES * (4 + 8 / 64 + 32 / (64 * 256)) / 8 + 2 * n_others + 4 * n_trained,
    }
    for precision, n_bytes in by_hand.items():
        savers = MemorySavers(base_precision=precision)  # type: ignore[arg-type]
        assert peak_memory(ROBERTA, work, "fp32", savers=savers).weights_bytes == pytest.approx(n_bytes, abs=1)


def test_a_llama_of_seven_billion_fits_in_nf4_as_qlora_has_it() -> None:
    """6.48 billion weights in matrices, of 4.127 bits; 0.26 billion in embeddings and head, of 16."""
    model = causal_spec("llama-2-7b", seq_len=512, response_len=128)
    nothing = replace(work(spec()), forward_layers=32, backward_layers=0, seq_len=512, kind=WorkKind.INFERENCE)
    held = peak_memory(model, replace(nothing, adapters=NO_ADAPTERS), "amp", savers=NF4).weights_bytes
    n_matrices = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    assert held == pytest.approx(n_matrices * 4.127 / 8 + 2 * (2 * 32000 * 4096 + 65 * 4096), rel=1e-3)


def test_what_is_trained_whole_is_float32_whatever_the_rest_is() -> None:
    top = replace(lora(0), backward_layers=2, kind=WorkKind.WEIGHTS)
    low, whole = (peak_memory(ROBERTA, top, "fp32", savers=each).weights_bytes for each in (BFLOAT16, NO_SAVERS))
    n_head = ROBERTA.n_head_parameters + ROBERTA.n_frozen_head_parameters
    n_frozen = ROBERTA.n_parameters - n_head - 2 * ROBERTA.n_layer_parameters
    assert whole - low == 2 * n_frozen
    everything = replace(top, backward_layers=12)
    same = [peak_memory(ROBERTA, everything, "fp32", savers=each) for each in (NF4, NO_SAVERS)]
    assert same[0] == same[1]


def test_a_matrix_is_read_as_it_is_stored_and_written_and_read_as_it_is_computed_with_in_each_pass() -> None:
    """All 12 layers forward, 2 backward; bfloat16 needs no conversion for arithmetic in halves."""
    work = lora(2)
    cost = step_of(ROBERTA, work, "fp32", savers=NF4).demand()
    per_weight = (4 + 8 / 64 + 32 / (64 * 256)) / 8 + 4
    # RoBERTa's frozen dense map of the head is bfloat16
    head = ROBERTA.n_frozen_head_weights * (2 + 4)
    assert cost.forward_conversion_bytes == pytest.approx(MATRICES * per_weight + head)
    assert cost.backward_conversion_bytes == pytest.approx(MATRICES / 6 * per_weight + head)
    plain = step_of(ROBERTA, work).demand()
    assert cost.forward_flop - plain.forward_flop == pytest.approx(MATRICES * (1 + 2 / 64))
    assert cost.n_forward_operations - plain.n_forward_operations == 12 * 6 * 3 + 1
    assert plain.forward_conversion_bytes == plain.backward_conversion_bytes == 0
    in_halves = step_of(ROBERTA, work, "amp", savers=BFLOAT16).demand()
    assert in_halves.forward_conversion_bytes == in_halves.backward_conversion_bytes == 0
    assert in_halves.forward_flop == plain.forward_flop
    time, before = (step_time(each, MODE, "fp32") for each in (cost, plain))
    assert time.forward_s - before.forward_s >= cost.forward_conversion_bytes / MODE.memory_bytes_per_s


def test_checkpointing_computes_the_differentiated_layers_twice() -> None:
    for depth in (1, 5, 12):
        once, twice = (step_of(ROBERTA, lora(depth), savers=each).demand() for each in (NO_SAVERS, CHECKPOINTING))
        one_layer = 2 * B * S * (4 * H * H + 2 * H * FF) + 4 * B * S**2 * H
        adapters = 2 * B * S * 2 * (R * 2 * H)
        assert twice.backward_flop - once.backward_flop == pytest.approx(depth * (one_layer + adapters))
        assert twice.forward_flop == once.forward_flop
        assert twice.backward_bytes - once.backward_bytes == 4 * depth * ROBERTA.n_layer_parameters
        assert twice.n_backward_operations > once.n_backward_operations


def test_checkpointing_keeps_the_input_of_each_layer_and_a_layer_at_a_time() -> None:
    plain, saved = (peak_memory(ROBERTA, lora(12), "fp32", savers=each) for each in (NO_SAVERS, CHECKPOINTING))
    head_bytes = peak_memory(ROBERTA, lora(0), "fp32").activations_bytes
    assert saved.activations_bytes == 12 * 4 * B * S * H + head_bytes
    one = (
        peak_memory(ROBERTA, lora(2), "fp32").activations_bytes
        - peak_memory(ROBERTA, lora(1), "fp32").activations_bytes
    )
    assert saved.workspace_bytes == pytest.approx(one + plain.workspace_bytes - head_bytes, abs=1)
    assert saved.total_bytes < plain.total_bytes
    assert peak_memory(ROBERTA, lora(0), "fp32", savers=CHECKPOINTING) == peak_memory(ROBERTA, lora(0), "fp32")


def test_a_pass_keeps_what_its_own_examples_need_and_all_together_compute_what_the_batch_does() -> None:
    plain, cut = (step_of(ROBERTA, lora(2), savers=each) for each in (NO_SAVERS, passes(4)))
    quarter = step_of(ROBERTA, replace(lora(2), batch_size=1))
    assert cut.memory() == quarter.memory()
    one, four, part = plain.demand(), cut.demand(), quarter.demand()
    assert (four.forward_flop, four.backward_flop) == pytest.approx((one.forward_flop, one.backward_flop))
    assert four.forward_bytes == 4 * part.forward_bytes  # weights are read by each
    assert four.n_forward_operations == 4 * part.n_forward_operations
    # each pass but the first reads what is there and its own gradient, and writes their sum
    assert four.optimizer_bytes - one.optimizer_bytes == 3 * 3 * 4 * plain.n_trained_parameters


def test_passes_are_as_even_as_can_be_and_no_more_than_examples() -> None:
    assert passes(3).pass_sizes(8) == (3, 3, 2)
    assert passes(3).pass_sizes(2) == (1, 1)
    assert NO_SAVERS.pass_sizes(8) == (8,)
    uneven = step_of(ROBERTA, lora(2), savers=passes(3))
    assert uneven.memory() == step_of(ROBERTA, replace(lora(2), batch_size=2)).memory()
    assert uneven.demand().forward_flop == pytest.approx(step_of(ROBERTA, lora(2)).forward_flop)


def test_moments_of_eight_bits_take_a_byte_each_and_a_scale_for_2048() -> None:
    eight = LocalOptimizer(name="adamw_8bit")
    share = 4 / 2048
    assert held_bytes(eight) == 4 + 2 * (1 + share)
    assert held_bytes(ADAMW) - held_bytes(eight) == 6 - 2 * share
    # parameter and gradient are read, the parameter written; both moments are read and written
    assert moved_bytes(eight) == 3 * 4 + 4 * (1 + share)


def test_a_run_pays_for_its_savers() -> None:
    training = TrainingDefaults(n_steps=1, batch_size=8, learning_rate=0.1)
    asked = lora(12)
    needs, costs = {}, {}
    for name, savers in (("none", NO_SAVERS), ("nf4", NF4), ("checkpointing", CHECKPOINTING), ("passes", passes(8))):
        pricing = Pricing(ROBERTA, replace(training, savers=savers))
        needs[name] = pricing.peak_memory_bytes(asked, "pytorch_cuda")
        costs[name] = pricing.cost(asked, MODE)
        assert needs[name] == peak_memory(ROBERTA, asked, "fp32", savers=savers).total_bytes
    for name in ("nf4", "checkpointing", "passes"):
        assert needs[name] < needs["none"]
        together = costs[name].forward_s + costs[name].backward_s
        assert together > costs["none"].forward_s + costs["none"].backward_s


SETTINGS = {
    "plain": NO_SAVERS,
    "checkpointing": CHECKPOINTING,
    "bfloat16": BFLOAT16,
    "nf4": NF4,
    "nf4, checkpointing": replace(NF4, checkpointing=True),
    "bfloat16, checkpointing": replace(BFLOAT16, checkpointing=True),
}


@pytest.mark.slow
@pytest.mark.parametrize(("attention", "vocabulary"), [("eager", 32_000), ("sdpa", 150_000)])
@pytest.mark.parametrize("precision", ["fp32", "amp"])
@pytest.mark.parametrize("savers", SETTINGS.values(), ids=SETTINGS.keys())
def test_what_is_kept_of_512_tokens_is_what_pytorch_keeps(
    savers: MemorySavers, precision: str, attention: Any, vocabulary: int
) -> None:
    from tests.unit.world.price.autograd_probe import run_causal_step

    response_len = 32
    config = {**LLAMA, "vocab_size": vocabulary, "max_position_embeddings": 512, "pad_token_id": 0}
    config |= {"hidden_size": 128, "intermediate_size": 320}
    model = spec(seq_len=512, response_len=response_len, **{**config, "model_type": "llama"})
    asked = work(model, depth=3, batch_size=2)
    use = peak_memory(model, asked, precision, attention=attention, savers=savers)
    probe = run_causal_step(config, asked, response_len, attention, savers, precision)
    assert use.activations_bytes == pytest.approx(probe.kept_bytes, rel=0.05)
