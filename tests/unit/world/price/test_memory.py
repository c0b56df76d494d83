"""Memory is what PyTorch keeps for the backward pass, plus weights, optimizer and one layer's working set."""

from dataclasses import replace

import pytest

from emulator.forms.lora import low_rank_adapters
from emulator.records import NO_ADAPTERS, Work, WorkKind
from emulator.shapes.catalog import model_spec
from emulator.world.price.allocator import replay
from emulator.world.price.memory import ALLOCATORS, AllocatorName, peak_memory, tensor_events
from emulator.world.price.step_trace import StepOptions

ROBERTA = model_spec("roberta-base", n_labels=2, seq_len=256, head="output")
QUERY_VALUE = ("query", "value")
SBH = 4 * 256 * 768  # elements of one activation at batch 4, length 256
SOFTMAX = 12 * 256 * 256 * 4


def lora(depth: int, targets: tuple[str, ...] = QUERY_VALUE, batch_size: int = 4, seq_len: int = 256) -> Work:
    return Work(
        n_steps=1,
        batch_size=batch_size,
        seq_len=seq_len,
        forward_layers=12,
        backward_layers=depth,
        adapters=low_rank_adapters(ROBERTA, targets, (0,) * (12 - depth) + (8,) * depth),
    )


def with_ranks(work: Work, *ranks: int) -> Work:
    """``work`` with these ranks on the matrices that it has adapters on."""
    adapters = low_rank_adapters(ROBERTA, work.adapters.places, ranks, work.width_fraction)
    return replace(work, adapters=adapters)


def layer_bytes(work: Work, precision: str = "fp32", **options: object) -> int:
    """What one more differentiated layer above the lowest keeps."""
    deeper = with_ranks(replace(work, backward_layers=work.backward_layers + 1), *work.adapters.ranks[1:], 8)
    more, less = (peak_memory(ROBERTA, w, precision, **options).activations_bytes for w in (deeper, work))  # type: ignore[arg-type]
    return more - less


@pytest.mark.parametrize(
    ("work", "options", "megabytes"),
    [
        # unique storages that PyTorch's saved_tensors_hooks see per layer of RoBERTa-base in float32, without dropout
        (lora(3), {}, 44.12),
        (lora(3, batch_size=8, seq_len=128), {}, 37.83),
        (lora(3, ROBERTA.matrices), {}, 63.13),
        (lora(3), {"attention": "sdpa"}, 34.7),
        # with dropout, byte masks as CUDA keeps them: 4 (10 sbh + 2 a s² b) + 2 sbh + a s² b, and 16 sbh in place of 10
        (lora(3), {"dropout": True}, 61.4),
        (lora(3, ROBERTA.matrices), {"dropout": True}, 80.2),
    ],
)
def test_a_roberta_layer_keeps_what_pytorch_was_seen_to_keep(
    work: Work, options: dict[str, object], megabytes: float
) -> None:
    assert layer_bytes(work, **options) == pytest.approx(megabytes * 1e6, rel=0.005)


def test_activations_grow_with_depth_and_are_none_below() -> None:
    nothing, one, two, three = (peak_memory(ROBERTA, lora(depth), "fp32").activations_bytes for depth in range(4))
    assert nothing == 4 * 4 * 768  # the input of the output map, one row per example
    assert three - two == two - one
    # the lowest layer's query needs no keeping, since its key needs no gradient
    assert (two - one) - (one - nothing) == 4 * SBH


def test_quantized_layers_keep_a_byte_and_a_share_of_a_scale() -> None:
    work = replace(lora(4), quantized_layers=2)
    full, quantized = (peak_memory(ROBERTA, w, "fp32").activations_bytes for w in (lora(4), work))
    # of 4 bytes, 1 + 4 / 64 are left, for 10 sbh and the softmax of a layer, less a query in the lowest of the two
    assert full - quantized == (4 - 1 - 4 / 64) * (19 * SBH + 2 * SOFTMAX)
    fewer_bits = peak_memory(ROBERTA, replace(work, activation_bits=4), "fp32").activations_bytes
    assert full - fewer_bits == (4 - 0.5 - 4 / 64) * (19 * SBH + 2 * SOFTMAX)


@pytest.mark.parametrize(("batch_size", "seq_len"), [(4, 256), (8, 128), (16, 128), (16, 256)])
def test_quantizing_all_layers_to_four_bits_leaves_less_than_three_fifths_of_the_peak(
    batch_size: int, seq_len: int
) -> None:
    work = lora(12, batch_size=batch_size, seq_len=seq_len)
    quantized = replace(work, quantized_layers=12, activation_bits=4)
    assert peak_memory(ROBERTA, quantized, "fp32").total_bytes <= 0.6 * peak_memory(ROBERTA, work, "fp32").total_bytes


def test_dropout_masks_stay_whole_when_the_rest_is_quantized() -> None:
    # 10 sbh and both softmaxes at 1.0625 bytes, masks at 1: 8.36 + 6.68 + 4.72 MB
    work = replace(lora(3), quantized_layers=12)
    assert layer_bytes(work, dropout=True) == pytest.approx(19.8e6, rel=0.005)


def test_mixed_precision_halves_all_but_norms_and_softmax() -> None:
    # 8 sbh at 2 bytes, 2 norms' inputs at 4, softmax at 4 + 2, norms' statistics at 4, outputs of lora_A at 2
    statistics, adapters = 4 * 4 * 256 * 4, 2 * 2 * 8 * 4 * 256
    weights = 2 * (4 * 768 * 768 + 2 * 768 * 3072)  # the copies of all matrices that products were computed with
    assert layer_bytes(lora(3), "amp") == 8 * SBH * 2 + 2 * SBH * 4 + SOFTMAX * 6 + statistics + adapters + weights


def test_weights_and_optimizer_follow_the_parameter_counts() -> None:
    use = peak_memory(ROBERTA, lora(12), "fp32")
    n_adapter = 12 * 8 * 2 * (768 + 768)  # 24 576 a layer
    n_head = 2 * 768 + 2
    assert use.weights_bytes == 4 * (ROBERTA.n_parameters + n_adapter)
    assert use.optimizer_bytes == 12 * (n_adapter + n_head)  # gradient, two moments


def test_a_frozen_adapter_needs_no_optimizer() -> None:
    held = with_ranks(lora(4), *(8,) * 12)
    assert peak_memory(ROBERTA, held, "fp32").optimizer_bytes == peak_memory(ROBERTA, lora(4), "fp32").optimizer_bytes
    assert peak_memory(ROBERTA, held, "fp32").weights_bytes - peak_memory(ROBERTA, lora(4), "fp32").weights_bytes == (
        4 * 8 * 8 * 2 * (768 + 768)
    )


def test_the_working_set_is_that_of_attention_or_of_the_feed_forward_part_whichever_is_larger() -> None:
    # 4 sbh + two arrays of scores against sbh + 2 · 4 sbh
    assert peak_memory(ROBERTA, lora(1), "fp32").workspace_bytes == 4 * (4 * SBH + 2 * SOFTMAX)
    short = lora(1, seq_len=32)
    assert peak_memory(ROBERTA, short, "fp32").workspace_bytes == 4 * 9 * 4 * 32 * 768


def test_pruned_layers_hold_and_keep_less() -> None:
    half = peak_memory(ROBERTA, with_ranks(replace(lora(12), width_fraction=0.5), *(8,) * 12), "fp32")
    whole = peak_memory(ROBERTA, lora(12), "fp32")
    n_matrices = 12 * (4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768)
    n_adapter_outputs = 12 * 8 * 2 * 768
    assert whole.weights_bytes - half.weights_bytes == 4 * 0.5 * (n_matrices + n_adapter_outputs)
    # of a layer's 10 sbh, x and both norms' inputs stay: 3 sbh
    kept_share = (3 + 0.5 * 7 + 0.5 * SOFTMAX / SBH) / (10 + SOFTMAX / SBH)
    assert half.activations_bytes == pytest.approx(kept_share * whole.activations_bytes, rel=0.01)


def test_below_a_cut_there_is_no_head() -> None:
    bottom = Work(n_steps=1, batch_size=4, seq_len=256, forward_layers=4, backward_layers=2,
                  adapters=low_rank_adapters(ROBERTA, QUERY_VALUE, (0, 0, 8, 8)))  # fmt: skip
    use = peak_memory(ROBERTA, bottom, "fp32")
    assert use.weights_bytes == 4 * (ROBERTA.n_embedding_parameters + 4 * ROBERTA.n_layer_parameters + 2 * 24576)
    assert use.optimizer_bytes == 12 * 2 * 24576


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_what_a_step_needs_is_what_its_allocator_holds(allocator: AllocatorName) -> None:
    held = []
    for batch_size in (1, 4, 16):
        work = lora(4, batch_size=batch_size)
        holder = ALLOCATORS[allocator]()
        replay(tensor_events(ROBERTA, work, StepOptions()), holder)
        use = peak_memory(ROBERTA, work, "fp32", allocator=allocator)
        parts = use.weights_bytes + use.activations_bytes + use.optimizer_bytes + use.workspace_bytes
        assert parts < use.total_bytes == parts + use.allocator_bytes == holder.peak_bytes
        held.append(use.total_bytes)
    assert held == sorted(held)


def test_the_number_of_steps_makes_no_difference_to_the_peak() -> None:
    assert peak_memory(ROBERTA, replace(lora(4), n_steps=7), "fp32") is peak_memory(ROBERTA, lora(4), "fp32")


def test_full_fine_tuning_needs_the_published_peak_memory_within_a_tenth() -> None:
    # BERT-base on a TX2 (GB); batch size 16, no dropout and 0.54 GB for the CUDA context fit, none of which is stated
    published = (1.2, 1.5, 1.7, 2.0, 2.3, 2.8, 3.2, 3.5, 3.9, 4.1, 4.3, 4.7, 5.3)
    bert = model_spec("bert-base", n_labels=2, seq_len=256, head="output")
    for depth, peak_gb in enumerate(published):
        work = replace(lora(depth, batch_size=16), adapters=NO_ADAPTERS, kind=WorkKind.WEIGHTS)
        use = peak_memory(bert, work, "fp32")
        assert use.total_bytes / 1e9 + 0.54 == pytest.approx(peak_gb, rel=0.1)


def test_full_fine_tuning_keeps_every_map_s_input_and_updates_every_parameter() -> None:
    work = replace(lora(3), adapters=NO_ADAPTERS, kind=WorkKind.WEIGHTS)
    adapted = lora(3, ROBERTA.matrices)
    between = 4 * 4 * 256 * 3 * 6 * 8  # what adapters keep between A and B: eight numbers in each of six matrices
    first_tokens_are_a_view = 4 * SBH  # the head's first map is trained, and keeps the last layer's output
    kept, kept_for_adapters = (peak_memory(ROBERTA, each, "fp32").activations_bytes for each in (work, adapted))
    assert kept == kept_for_adapters - between + first_tokens_are_a_view
    everything = peak_memory(ROBERTA, replace(work, backward_layers=12), "fp32")
    assert everything.optimizer_bytes == 12 * ROBERTA.n_parameters
    assert everything.weights_bytes == 4 * ROBERTA.n_parameters


def test_inference_keeps_nothing() -> None:
    use = peak_memory(ROBERTA, replace(lora(0), kind=WorkKind.INFERENCE), "fp32")
    assert (use.activations_bytes, use.optimizer_bytes) == (0, 0)
    assert use.weights_bytes == 4 * ROBERTA.n_parameters
    assert use.workspace_bytes > 0


ALL = ("query", "key", "value", "attention_output", "mlp_gate", "mlp_up", "mlp_down")


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "family",
    [
        *("bert", "roberta", "camembert", "roberta-prelayernorm", "distilbert", "mpnet", "deberta-v2", "deberta-v3"),
        *("modernbert", "albert", "llama", "gemma", "gpt2", "phi3", "opt"),
    ],
)
@pytest.mark.parametrize(
    ("targets", "depth", "batch_size", "seq_len", "head"),
    [
        (QUERY_VALUE, 3, 4, 32, "full"),
        (QUERY_VALUE, 1, 2, 128, "output"),
        (QUERY_VALUE, 0, 2, 32, "full"),
        (ALL, 2, 2, 64, "output"),
        (("key", "attention_output"), 2, 2, 64, "full"),
        (("mlp_down",), 1, 2, 64, "output"),
    ],
)
def test_activations_are_what_pytorch_keeps(
    family: str, attention: str, targets: tuple[str, ...], depth: int, batch_size: int, seq_len: int, head: str
) -> None:
    from tests.unit.world.price.autograd_probe import N_LAYERS, priced, run_step

    model = priced(family, head)
    if attention == "sdpa" and not model.layer_design.fuses_attention:
        attention = "eager"  # transformers has no other
    work = Work(
        n_steps=1,
        batch_size=batch_size,
        seq_len=seq_len,
        forward_layers=N_LAYERS,
        backward_layers=depth,
        adapters=low_rank_adapters(
            model,
            tuple(target for target in model.stored(targets) if target in model.matrices),
            (0,) * (N_LAYERS - depth) + (4,) * depth,
        ),
    )
    use = peak_memory(model, work, "fp32", attention="eager" if attention == "eager" else "sdpa")
    probe = run_step(family, work, head, attention)
    assert use.activations_bytes == pytest.approx(probe.kept_bytes, rel=0.05, abs=64)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "llama"])
@pytest.mark.parametrize("kind", [WorkKind.WEIGHTS, WorkKind.LAYERS])
@pytest.mark.parametrize(("depth", "batch_size", "seq_len"), [(3, 4, 32), (2, 2, 64), (1, 2, 128)])
def test_full_fine_tuning_keeps_what_pytorch_keeps(
    family: str, attention: str, kind: WorkKind, depth: int, batch_size: int, seq_len: int
) -> None:
    from tests.unit.world.price.autograd_probe import N_LAYERS, priced, run_step

    work = Work(
        n_steps=1,
        batch_size=batch_size,
        seq_len=seq_len,
        forward_layers=N_LAYERS,
        backward_layers=depth,
        kind=kind,
    )
    use = peak_memory(priced(family, "full"), work, "fp32", attention="eager" if attention == "eager" else "sdpa")
    probe = run_step(family, work, "full", attention)
    assert use.activations_bytes == pytest.approx(probe.kept_bytes, rel=0.05)
