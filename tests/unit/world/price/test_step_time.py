"""FLOP follow from shapes as PyTorch counts them, time from FLOP and a profile, and a TX2 takes what was published."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from device_profiles.catalog import load_profile
from device_profiles.records import PowerMode, StepLaw
from emulator.forms.lora import low_rank_adapters
from emulator.records import NO_ADAPTERS, Extra, LocalOptimizer, MemorySavers, Work, WorkKind
from emulator.shapes.catalog import model_spec, model_spec_from_config
from emulator.shapes.spec import ModelSpec
from emulator.world.price.layers import Layers
from emulator.world.price.operations import n_backward_operations, n_forward_operations
from emulator.world.price.step import Step
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_time import CostModel, price, step_time

ROBERTA = model_spec("roberta-base", n_labels=2, seq_len=256, head="output")
TX2_STEPS = Path(__file__).parents[4] / "device_profiles" / "tx2_adapter_steps.csv"

# An invented board on which the arithmetic is easy: 1 TFLOP/s, 100 GB/s, 10 ms.
MODE = PowerMode(
    name="plain",
    mode_id=0,
    effective_flop_per_s={"fp32": 1e12, "amp": 4e12},
    memory_bytes_per_s=1e11,
    step_overhead_s=0.01,
    idle_w=1,
    compute_w=2,
    transfer_w=1,
)

B, S, H, R = 4, 256, 768, 8
MATRICES = 24 * B * S * H**2  # a layer's linear maps
PRODUCT = 2 * B * S**2 * H  # one of the two products of attention
ADAPTER = 2 * B * S * R * 2 * H  # forward, one adapted matrix of H × H


def optimizer_s(depth: int) -> float:
    """AdamW touches a parameter, its gradient and two moments, and writes all but the gradient: 7 times 4 bytes."""
    n_trained = depth * 2 * R * 2 * H + 2 * H + 2
    return 28 * n_trained / MODE.memory_bytes_per_s


def whole(depth: int, seq_len: int = S) -> Work:
    """Full fine-tuning of the top layers."""
    return replace(lora(depth), adapters=NO_ADAPTERS, kind=WorkKind.WEIGHTS, seq_len=seq_len)


def lora(depth: int, targets: tuple[str, ...] = ("query", "value"), n_steps: int = 1, rank: int = R) -> Work:
    return Work(
        n_steps=n_steps,
        batch_size=B,
        seq_len=S,
        forward_layers=12,
        backward_layers=depth,
        adapters=low_rank_adapters(ROBERTA, targets, (0,) * (12 - depth) + (rank,) * depth),
    )


def with_ranks(work: Work, *ranks: int) -> Work:
    """``work`` with these ranks on query and value of RoBERTa."""
    return replace(work, adapters=low_rank_adapters(ROBERTA, ("query", "value"), ranks))


def head_forward_flop() -> float:
    """RoBERTa's dense (with its bias, since it is frozen and but counted) and output map, on each first token."""
    return 2 * B * (H * H + H + 2 * H)


def test_forward_is_every_layer_and_the_adapters_that_are_held() -> None:
    assert step_of(ROBERTA, lora(0)).forward_flop == pytest.approx(
        183.61e9, rel=1e-4
    )  # counted by PyTorch, batch 4, length 256
    assert (
        step_of(ROBERTA, lora(5)).forward_flop == 12 * (MATRICES + 2 * PRODUCT) + 5 * 2 * ADAPTER + head_forward_flop()
    )


@pytest.mark.parametrize(
    ("depth", "gflop"), [(1, 12.16), (2, 28.37), (4, 60.78), (8, 125.6), (12, 190.4)]
)  # counted by PyTorch's FlopCounterMode on RoBERTa-base with PEFT, rank 8 on query and value, batch 4, length 256
def test_backward_through_the_last_layers_is_what_pytorch_counts(depth: int, gflop: float) -> None:
    assert step_of(ROBERTA, lora(depth)).backward_flop == pytest.approx(gflop * 1e9, rel=0.001)


def test_the_lowest_layer_saves_what_leads_to_its_input_alone() -> None:
    per_layer = step_of(ROBERTA, lora(3)).backward_flop - step_of(ROBERTA, lora(2)).backward_flop
    assert per_layer == MATRICES + 4 * PRODUCT + 2 * 2 * ADAPTER
    lowest = step_of(ROBERTA, lora(1)).backward_flop - step_of(ROBERTA, lora(0)).backward_flop
    head_inputs = head_forward_flop()  # depth 0 needs no gradient of the head's input
    # 6 b s h² into query, key and value; the gradient of key; that of the adapters' input, half of lora_A's four terms
    saved = 6 * B * S * H**2 + PRODUCT + 2 * 2 * B * S * R * H
    assert per_layer - (lowest - head_inputs) == saved


def test_depth_0_trains_the_head_alone() -> None:
    assert step_of(ROBERTA, lora(0)).backward_flop == 2 * B * 2 * H


def test_adapters_below_the_differentiated_layers_cost_forward_only() -> None:
    held = with_ranks(lora(4), *(R,) * 12)
    assert step_of(ROBERTA, held).backward_flop == step_of(ROBERTA, lora(4)).backward_flop
    assert step_of(ROBERTA, held).forward_flop - step_of(ROBERTA, lora(4)).forward_flop == 8 * 2 * ADAPTER


def test_each_layer_pays_for_its_own_rank() -> None:
    ranks = (0,) * 8 + (4, 0, 8, 16)
    more = step_of(ROBERTA, with_ranks(lora(4), *ranks)).backward_flop - step_of(ROBERTA, lora(4, rank=1)).backward_flop
    # 4 terms of 2 b s r h for each of 2 matrices; the lowest layer, of rank 4, needs no gradient of their input
    unit = 2 * B * S * H
    assert more == pytest.approx(2 * unit * (4 * (8 - 1) + 4 * (16 - 1) + 4 * (0 - 1) + 3 * (4 - 1)))


def test_pruning_half_the_heads_and_channels_halves_the_layers() -> None:
    half = replace(lora(12, rank=0), width_fraction=0.5)
    layers = step_of(ROBERTA, lora(12, rank=0)).forward_flop - head_forward_flop()
    assert step_of(ROBERTA, half).forward_flop - head_forward_flop() == pytest.approx(0.5 * layers)


def test_below_a_cut_there_is_no_head() -> None:
    bottom = with_ranks(replace(lora(2), forward_layers=4), 0, 0, R, R)
    assert step_of(ROBERTA, bottom).forward_flop == 4 * (MATRICES + 2 * PRODUCT) + 2 * 2 * ADAPTER


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
    work = Work(n_steps=1, batch_size=2, seq_len=128, forward_layers=22, backward_layers=0)
    n_weights = 2 * 2048 * 2048 + 2 * 2048 * 256 + 3 * 2048 * 5632
    products = 2 * 2 * 2 * 128**2 * 2048
    head = 2 * 2 * 128 * 2048 * 2  # a decoder scores every token
    assert step_of(llama, work).forward_flop == 22 * (2 * 2 * 128 * n_weights + products) + head


def test_time_is_flop_over_rate_with_the_overhead_in_the_forward_pass() -> None:
    cost = price(ROBERTA, lora(4, n_steps=3), MODE, "fp32")
    assert cost.forward_flop == 3 * step_of(ROBERTA, lora(4)).forward_flop
    assert cost.forward_s == pytest.approx(3 * (step_of(ROBERTA, lora(4)).forward_flop / 1e12 + 0.01 + optimizer_s(4)))
    assert cost.backward_s == pytest.approx(3 * step_of(ROBERTA, lora(4)).backward_flop / 1e12)
    assert price(ROBERTA, lora(4), MODE, "amp").backward_s == pytest.approx(
        step_of(ROBERTA, lora(4)).backward_flop / 4e12
    )


def test_quantizing_costs_a_pass_over_the_kept_activations_each_way() -> None:
    plain, quantized = (
        price(ROBERTA, replace(lora(4), quantized_layers=n_layers), MODE, "fp32") for n_layers in (0, 2)
    )
    # 19 sbh and 2 softmaxes of the two lowest layers: 4 bytes read, 1 + 4 / 64 written, and the other way round
    n_elements = 19 * B * S * H + 2 * 12 * S * S * B
    pass_s = n_elements * (4 + 1 + 4 / 64) / MODE.memory_bytes_per_s
    assert quantized.forward_s - plain.forward_s == pytest.approx(pass_s)
    assert quantized.backward_s - plain.backward_s == pytest.approx(pass_s)
    assert quantized.forward_flop == plain.forward_flop


def test_work_is_counted_once_however_often_it_is_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Work] = []

    def counting(model: ModelSpec, work: Work, precision: str, optimizer: LocalOptimizer, savers: MemorySavers) -> Step:
        counted.append(work)
        return step_of(model, work, precision, optimizer, savers)

    monkeypatch.setattr("emulator.world.price.step_time.step_of", counting)
    costs, works = CostModel(ROBERTA, "fp32"), [lora(depth) for depth in range(13)]
    priced = [[costs.price(work, MODE) for work in works] for _ in range(3)]

    assert counted == works
    assert priced[0] == priced[1] == priced[2]


def test_modes_that_come_and_go_have_prices_of_their_own() -> None:
    costs = CostModel(ROBERTA, "fp32")
    for overhead_s in (0.1, 0.2, 0.3, 0.1):
        mode = replace(MODE, step_overhead_s=overhead_s)
        assert costs.price(lora(3), mode) == price(ROBERTA, lora(3), mode, "fp32")


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
    mode = load_profile("jetson_tx2").mode("MAXN")
    model = model_spec("bert-base", n_labels=2, seq_len=S, head="output")
    errors = []
    for row in tx2_steps():
        if row["full_finetune_s"]:
            cost = price(model, whole(int(row["depth"])), mode, "fp32")
            errors.append(abs((cost.forward_s + cost.backward_s) / float(row["full_finetune_s"]) - 1))
    assert len(errors) == 7
    assert max(errors) < 0.15
    assert statistics.mean(errors) < 0.10


def test_training_a_layer_whole_costs_twice_its_forward_and_attention_too() -> None:
    # Kaplan et al. 2020, arXiv 2001.08361, section 2.1
    per_layer = step_of(ROBERTA, whole(3)).backward_flop - step_of(ROBERTA, whole(2)).backward_flop
    assert per_layer == 2 * (MATRICES + 2 * PRODUCT)
    # The lowest layer needs no gradient of its input, unless the embeddings below it are trained.
    head = 2 * head_forward_flop()
    assert step_of(ROBERTA, whole(2)).backward_flop == pytest.approx(head + 2 * per_layer - 6 * B * S * H**2)
    assert step_of(ROBERTA, whole(12)).backward_flop == pytest.approx(head + 12 * per_layer)


def test_inference_is_the_forward_pass_alone() -> None:
    inference = replace(lora(0), kind=WorkKind.INFERENCE)
    assert step_of(ROBERTA, inference).forward_flop == step_of(ROBERTA, lora(0)).forward_flop
    cost = price(ROBERTA, inference, MODE, "fp32")
    assert (cost.backward_s, cost.backward_flop) == (0, 0)
    assert cost.forward_s == pytest.approx(step_of(ROBERTA, inference).forward_flop / 1e12 + 0.01)


def test_the_optimizer_of_full_fine_tuning_passes_over_all_that_is_trained() -> None:
    layer = 12 * H**2 + 9 * H + 4 * H  # four square maps and two of 4 h, their biases, two norms
    head = H * H + H + 2 * H + 2
    demand = step_of(ROBERTA, whole(3), "fp32").demand()
    assert demand.optimizer_bytes == 28 * (3 * layer + head)
    assert step_time(demand, MODE, "fp32").overhead_s == 0.01 + demand.optimizer_bytes / 1e11
    assert step_of(ROBERTA, whole(12), "fp32").demand().optimizer_bytes == 28 * ROBERTA.n_parameters


SHORT = replace(lora(2), batch_size=1, seq_len=4)


def test_a_step_of_few_tokens_takes_as_long_as_reading_the_weights() -> None:
    demand = step_of(ROBERTA, SHORT, "fp32").demand()
    layer = 12 * H**2 + 9 * H + 4 * H
    head = H * H + H + 2 * H
    assert demand.forward_bytes == 4 * (12 * layer + head)
    assert demand.backward_bytes == 4 * (2 * layer + head)
    time = step_time(demand, MODE, "fp32")
    assert (time.forward_s, time.backward_s) == (demand.forward_bytes / 1e11, demand.backward_bytes / 1e11)
    assert step_of(ROBERTA, replace(SHORT, seq_len=2), "fp32").demand().forward_bytes == demand.forward_bytes


def test_a_step_of_few_tokens_takes_as_long_as_dispatching_its_operations() -> None:
    mode = replace(MODE, dispatch_s=1e-3)
    time = step_time(step_of(ROBERTA, SHORT, "fp32").demand(), mode, "fp32")
    assert n_forward_operations(Layers(ROBERTA, SHORT)) == 12 + 12 * 21 + 2 * 2 * 4  # outside, layers, adapters
    assert n_backward_operations(Layers(ROBERTA, SHORT)) == 6 + 2 * 23 + 2 * 2 * 6
    assert (time.forward_s, time.backward_s) == (pytest.approx(0.280), pytest.approx(0.076))
    wide = step_time(step_of(ROBERTA, replace(lora(2), batch_size=32), "fp32").demand(), mode, "fp32")
    assert wide.forward_s == step_of(ROBERTA, replace(lora(2), batch_size=32)).forward_flop / 1e12


def test_mixed_precision_moves_eight_bytes_for_a_weight_forward_and_two_backward() -> None:
    fp32, amp = (step_of(ROBERTA, SHORT, precision).demand() for precision in ("fp32", "amp"))
    assert (amp.forward_bytes, amp.backward_bytes) == (2 * fp32.forward_bytes, 0.5 * fp32.backward_bytes)


def test_ranks_above_a_cut_cost_nothing_below_it() -> None:
    bottom = with_ranks(replace(lora(2), forward_layers=4), 0, 0, R, R)
    whole_length = with_ranks(bottom, 0, 0, *(R,) * 10)
    assert step_of(ROBERTA, whole_length, "fp32").demand() == step_of(ROBERTA, bottom, "fp32").demand()


HEAD_BIAS_FLOP = 2 * 2 * 64  # the bias of a head's frozen map counts as weights: two rows, 64 of them
ALL = ("query", "key", "value", "attention_output", "mlp_gate", "mlp_up", "mlp_down")


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [
        "bert",
        "roberta",
        "distilbert",
        "mpnet",
        "deberta-v2",
        "deberta-v3",
        "modernbert",
        "albert",
        "llama",
        "gpt2",
        "phi3",
    ],
)
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
    from tests.unit.world.price.autograd_probe import N_LAYERS, priced, run_step

    model = priced(family, "full")
    work = Work(
        n_steps=1,
        batch_size=2,
        seq_len=32,
        forward_layers=N_LAYERS,
        backward_layers=depth,
        adapters=low_rank_adapters(
            model,
            tuple(target for target in model.stored(targets) if target in model.matrices),
            (0,) * (N_LAYERS - depth) + (4,) * depth,
        ),
    )
    probe = run_step(family, work)
    assert step_of(model, work).forward_flop == pytest.approx(probe.forward_flop, rel=0.001)
    assert step_of(model, work).backward_flop == pytest.approx(probe.backward_flop, rel=0.001, abs=HEAD_BIAS_FLOP)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "llama"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_flop_of_full_fine_tuning_are_what_pytorch_counts(family: str, depth: int) -> None:
    from tests.unit.world.price.autograd_probe import N_LAYERS, priced, run_step

    model = priced(family, "output")
    work = Work(
        n_steps=1,
        batch_size=2,
        seq_len=32,
        forward_layers=N_LAYERS,
        backward_layers=depth,
        kind=WorkKind.WEIGHTS,
    )
    probe = run_step(family, work, "output")
    assert step_of(model, work).forward_flop == pytest.approx(probe.forward_flop, rel=0.001)
    assert step_of(model, work).backward_flop == pytest.approx(probe.backward_flop, rel=0.001, abs=HEAD_BIAS_FLOP)


@pytest.mark.parametrize("law", ["queued", "in_turn"])
def test_other_laws_let_element_wise_operations_pass_through_the_memory(law: StepLaw) -> None:
    mode = replace(MODE, step_law=law, dispatch_s=1e-4, memory_bytes_per_s=2e10)
    demand = step_of(ROBERTA, lora(5), "fp32").demand()
    time = step_time(demand, mode, "fp32")
    arithmetic_s = demand.backward_flop / 1e12
    memory_s = (demand.backward_bytes + demand.backward_element_bytes) / 2e10
    dispatch_s = demand.n_backward_operations * 1e-4
    beside_s = max(arithmetic_s + memory_s, dispatch_s)
    assert time.backward_s == pytest.approx(beside_s if law == "queued" else arithmetic_s + memory_s + dispatch_s)
    assert 0 < dispatch_s < memory_s
    assert time.overhead_s == step_time(demand, replace(mode, step_law="roofline"), "fp32").overhead_s


@pytest.mark.parametrize("law", ["roofline", "in_turn", "queued"])
def test_what_is_beside_the_steps_follows_the_law_of_a_pass(law: StepLaw) -> None:
    mode = replace(MODE, step_law=law, dispatch_s=1e-3)
    # 3 s of arithmetic, 2 s of memory and 1 s of dispatch once; a tenth of that in each of 5 steps.
    once, each = Extra(3e12, 2e11, 1000), Extra(3e11, 2e10, 100)
    once_s = {"roofline": 3.0, "in_turn": 6.0, "queued": 5.0}[law]
    work = replace(whole(2), n_steps=5)
    plain, extra = (price(ROBERTA, one, mode, "fp32") for one in (work, replace(work, once=once, per_step=each)))
    assert extra.forward_s - plain.forward_s == pytest.approx(once_s)
    assert extra.backward_s - plain.backward_s == pytest.approx(5 * once_s / 10)
    assert extra.forward_flop - plain.forward_flop == pytest.approx(3e12)
    assert extra.backward_flop - plain.backward_flop == pytest.approx(5 * 3e11)
    length_s = {name: cost.forward_s + cost.backward_s for name, cost in (("plain", plain), ("extra", extra))}
    arithmetic_s = plain.busy.arithmetic * length_s["plain"] + 3.0 + 5 * 0.3
    assert extra.busy.arithmetic == pytest.approx(arithmetic_s / length_s["extra"])
