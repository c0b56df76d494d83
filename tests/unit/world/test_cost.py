"""FLOP follow from shapes as PyTorch counts them, time from FLOP and a profile, and a TX2 takes what was published."""

import csv
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from device_profiles.catalog import load_profile
from device_profiles.records import PowerMode
from emulator.model_catalog import model_spec, model_spec_from_config
from emulator.records import Work
from emulator.world.cost import CostModel, backward_flop, forward_flop, price

ROBERTA = model_spec("roberta-base", n_labels=2, seq_len=256, head="output")
TX2_STEPS = Path(__file__).parents[3] / "device_profiles" / "tx2_adapter_steps.csv"

# An invented board on which the arithmetic is easy: 1 TFLOP/s, 1 GB/s, 10 ms.
MODE = PowerMode(
    name="plain",
    mode_id=0,
    effective_flop_per_s={"fp32": 1e12, "amp": 4e12},
    memory_bytes_per_s=1e9,
    step_overhead_s=0.01,
    idle_w=1,
    compute_w=2,
    transfer_w=1,
)

B, S, H, R = 4, 256, 768, 8
MATRICES = 24 * B * S * H**2  # a layer's linear maps
PRODUCT = 2 * B * S**2 * H  # one of the two products of attention
ADAPTER = 2 * B * S * R * 2 * H  # forward, one adapted matrix of H × H


def lora(depth: int, targets: tuple[str, ...] = ("query", "value"), n_steps: int = 1, rank: int = R) -> Work:
    return Work(
        n_steps=n_steps,
        batch_size=B,
        seq_len=S,
        forward_layers=12,
        backward_layers=depth,
        ranks=(0,) * (12 - depth) + (rank,) * depth,
        targets=targets,
    )


def head_forward_flop() -> float:
    """RoBERTa's dense (with its bias, since it is frozen and but counted) and output map, on each first token."""
    return 2 * B * (H * H + H + 2 * H)


def test_forward_is_every_layer_and_the_adapters_that_are_held() -> None:
    assert forward_flop(ROBERTA, lora(0)) == pytest.approx(
        183.61e9, rel=1e-4
    )  # counted by PyTorch, batch 4, length 256
    assert forward_flop(ROBERTA, lora(5)) == 12 * (MATRICES + 2 * PRODUCT) + 5 * 2 * ADAPTER + head_forward_flop()


@pytest.mark.parametrize(
    ("depth", "gflop"), [(1, 12.16), (2, 28.37), (4, 60.78), (8, 125.6), (12, 190.4)]
)  # counted by PyTorch's FlopCounterMode on RoBERTa-base with PEFT, rank 8 on query and value, batch 4, length 256
def test_backward_through_the_last_layers_is_what_pytorch_counts(depth: int, gflop: float) -> None:
    assert backward_flop(ROBERTA, lora(depth)) == pytest.approx(gflop * 1e9, rel=0.001)


def test_the_lowest_layer_saves_what_leads_to_its_input_alone() -> None:
    per_layer = backward_flop(ROBERTA, lora(3)) - backward_flop(ROBERTA, lora(2))
    assert per_layer == MATRICES + 4 * PRODUCT + 2 * 2 * ADAPTER
    lowest = backward_flop(ROBERTA, lora(1)) - backward_flop(ROBERTA, lora(0))
    head_inputs = head_forward_flop()  # depth 0 needs no gradient of the head's input
    # 6 b s h² into query, key and value; the gradient of key; that of the adapters' input, half of lora_A's four terms
    saved = 6 * B * S * H**2 + PRODUCT + 2 * 2 * B * S * R * H
    assert per_layer - (lowest - head_inputs) == saved


def test_depth_0_trains_the_head_alone() -> None:
    assert backward_flop(ROBERTA, lora(0)) == 2 * B * 2 * H


def test_adapters_below_the_differentiated_layers_cost_forward_only() -> None:
    held = replace(lora(4), ranks=(R,) * 12)
    assert backward_flop(ROBERTA, held) == backward_flop(ROBERTA, lora(4))
    assert forward_flop(ROBERTA, held) - forward_flop(ROBERTA, lora(4)) == 8 * 2 * ADAPTER


def test_each_layer_pays_for_its_own_rank() -> None:
    ranks = (0,) * 8 + (4, 0, 8, 16)
    more = backward_flop(ROBERTA, replace(lora(4), ranks=ranks)) - backward_flop(ROBERTA, lora(4, rank=0))
    # 4 terms of 2 b s r h for each of 2 matrices; the lowest layer, of rank 4, needs no gradient of their input
    unit = 2 * B * S * H
    assert more == pytest.approx(2 * unit * (4 * 8 + 4 * 16 + 3 * 4))


def test_pruning_half_the_heads_and_channels_halves_the_layers() -> None:
    half = replace(lora(12, rank=0), width_fraction=0.5)
    layers = forward_flop(ROBERTA, lora(12, rank=0)) - head_forward_flop()
    assert forward_flop(ROBERTA, half) - head_forward_flop() == pytest.approx(0.5 * layers)


def test_below_a_cut_there_is_no_head() -> None:
    bottom = replace(lora(2), forward_layers=4, ranks=(0, 0, R, R))
    assert forward_flop(ROBERTA, bottom) == 4 * (MATRICES + 2 * PRODUCT) + 2 * 2 * ADAPTER


def test_grouped_query_attention_and_a_gated_mlp_are_priced_by_their_parameters() -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 2048,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "intermediate_size": 5632,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
    }
    llama = model_spec_from_config(config, name="tiny-llama", n_labels=2, seq_len=128, head="full")
    work = Work(n_steps=1, batch_size=2, seq_len=128, forward_layers=22, backward_layers=0, ranks=(0,) * 22,
                targets=("query", "value"))  # fmt: skip
    n_weights = 2 * 2048 * 2048 + 2 * 2048 * 256 + 3 * 2048 * 5632
    products = 2 * 2 * 2 * 128**2 * 2048
    head = 2 * 2 * 128 * 2048 * 2  # a decoder scores every token
    assert forward_flop(llama, work) == 22 * (2 * 2 * 128 * n_weights + products) + head


def test_time_is_flop_over_rate_with_the_overhead_in_the_forward_pass() -> None:
    cost = price(ROBERTA, lora(4, n_steps=3), MODE, "fp32")
    assert cost.forward_flop == 3 * forward_flop(ROBERTA, lora(4))
    assert cost.forward_s == pytest.approx(3 * (forward_flop(ROBERTA, lora(4)) / 1e12 + 0.01))
    assert cost.backward_s == pytest.approx(3 * backward_flop(ROBERTA, lora(4)) / 1e12)
    assert price(ROBERTA, lora(4), MODE, "amp").backward_s == pytest.approx(backward_flop(ROBERTA, lora(4)) / 4e12)


def test_quantizing_costs_a_pass_over_the_kept_activations_each_way() -> None:
    plain, quantized = (
        price(ROBERTA, replace(lora(4), quantized_layers=n_layers), MODE, "fp32") for n_layers in (0, 2)
    )
    # 19 sbh and 2 softmaxes of the two lowest layers: 4 bytes read, 1 + 2 / 128 written, and the other way round
    n_elements = 19 * B * S * H + 2 * 12 * S * S * B
    pass_s = n_elements * (4 + 1 + 2 / 128) / 1e9
    assert quantized.forward_s - plain.forward_s == pytest.approx(pass_s)
    assert quantized.backward_s - plain.backward_s == pytest.approx(pass_s)
    assert quantized.forward_flop == plain.forward_flop


def test_pricing_remembered_work_takes_microseconds() -> None:
    costs = CostModel(ROBERTA, "fp32")
    works = [lora(depth) for depth in range(13)]
    for work in works:
        costs.price(work, MODE)
    fastest_s = min(_seconds_per_price(costs, works) for _ in range(5))
    assert fastest_s < 15e-6


def _seconds_per_price(costs: CostModel, works: Sequence[Work]) -> float:
    start_s = time.perf_counter()
    for _ in range(20):
        for work in works:
            costs.price(work, MODE)
    return (time.perf_counter() - start_s) / (20 * len(works))


def tx2_steps() -> Sequence[Mapping[str, str]]:
    with TX2_STEPS.open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@pytest.mark.parametrize("model_name", ["bert-base", "roberta-base"])
def test_a_tx2_takes_the_published_time_for_adapters_at_every_depth(model_name: str) -> None:
    mode = load_profile("jetson_tx2").mode("MAXN")
    model = model_spec(model_name, n_labels=2, seq_len=S, head="output")
    errors = []
    for row in tx2_steps():
        cost = price(model, lora(int(row["depth"])), mode, "fp32")
        errors.append(abs((cost.forward_s + cost.backward_s) / float(row["adapter_s"]) - 1))
    assert len(errors) == 13
    assert max(errors) < 0.15
    assert statistics.mean(errors) < 0.10


def test_a_tx2_takes_the_published_time_for_full_fine_tuning_by_the_same_rate() -> None:
    # training a layer whole costs twice its forward (Kaplan et al. 2020, arXiv 2001.08361, section 2.1)
    rate = load_profile("jetson_tx2").mode("MAXN").effective_flop_per_s["fp32"]
    overhead_s = load_profile("jetson_tx2").mode("MAXN").step_overhead_s
    for row in tx2_steps():
        if row["full_finetune_s"]:
            flop = (12 + 2 * int(row["depth"])) * (MATRICES + 2 * PRODUCT)
            assert flop / rate + overhead_s == pytest.approx(float(row["full_finetune_s"]), rel=0.05)


ALL = ("query", "key", "value", "attention_output", "mlp_gate", "mlp_up", "mlp_down")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "llama"])
@pytest.mark.parametrize(
    ("targets", "depth"),
    [
        (("query", "value"), 3),
        (("query", "value"), 0),
        (("value",), 1),
        (("query",), 1),
        (("key", "attention_output"), 2),
        (("mlp_down",), 1),
        (("mlp_up", "mlp_down"), 2),
        (ALL, 3),
    ],
)
def test_flop_are_what_pytorch_counts(family: str, targets: tuple[str, ...], depth: int) -> None:
    from autograd_probe import N_LAYERS, priced, run_step

    model = priced(family, "full")
    work = Work(
        n_steps=1,
        batch_size=2,
        seq_len=32,
        forward_layers=N_LAYERS,
        backward_layers=depth,
        ranks=(0,) * (N_LAYERS - depth) + (4,) * depth,
        targets=tuple(target for target in targets if target in model.matrices),
    )
    probe = run_step(family, work)
    assert forward_flop(model, work) == pytest.approx(probe.forward_flop, rel=0.001)
    assert backward_flop(model, work) == pytest.approx(probe.backward_flop, rel=0.001)
