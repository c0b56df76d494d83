"""Work whose layers differ: a rank for each matrix of each layer, and networks that lack some layers."""

from dataclasses import replace

import pytest

from emulator.forms.lora import low_rank_adapters
from emulator.records import NO_ADAPTERS, Work
from emulator.shapes.catalog import model_spec
from emulator.world.price.layers import Layers
from emulator.world.price.memory import peak_memory
from emulator.world.price.operations import n_backward_operations, n_forward_operations
from emulator.world.price.step_kinds import step_of

ROBERTA = model_spec("roberta-base", n_labels=2, seq_len=128, head="output")
H, N_TOKENS = 768, 4 * 128
UNIFORM = Work(
    n_steps=1,
    batch_size=4,
    seq_len=128,
    forward_layers=12,
    backward_layers=5,
    adapters=low_rank_adapters(ROBERTA, ("query", "value"), (0,) * 7 + (8,) * 5),
)


def uneven(*target_ranks: tuple[int, int]) -> Work:
    """RoBERTa with these ranks on query and value of its uppermost layers, all of which are differentiated."""
    ranks = ((0, 0),) * (12 - len(target_ranks)) + target_ranks
    adapters = low_rank_adapters(ROBERTA, ("query", "value"), ranks)
    return replace(UNIFORM, adapters=adapters, backward_layers=len(target_ranks))


def test_equal_ranks_in_every_matrix_cost_what_one_rank_per_layer_does() -> None:
    same = uneven(*((8, 8),) * 5)
    for precision in ("fp32", "amp"):
        assert step_of(ROBERTA, same, precision).demand() == step_of(ROBERTA, UNIFORM, precision).demand()
        assert peak_memory(ROBERTA, same, precision) == peak_memory(ROBERTA, UNIFORM, precision)


def test_adapters_cost_their_own_rank() -> None:
    work = uneven((3, 5), (0, 2))
    nothing = replace(work, adapters=NO_ADAPTERS, backward_layers=0)
    # 2 b s r (d_in + d_out) for each adapted matrix, all of them 768 by 768
    assert (
        step_of(ROBERTA, work).forward_flop - step_of(ROBERTA, nothing).forward_flop
        == 2 * N_TOKENS * (3 + 5 + 2) * 2 * H
    )
    assert step_of(ROBERTA, work).n_trained_parameters == (3 + 5 + 2) * 2 * H + ROBERTA.n_head_parameters
    assert n_forward_operations(Layers(ROBERTA, work)) - n_forward_operations(Layers(ROBERTA, nothing)) == 3 * 4


def test_adapters_below_the_differentiated_layers_are_held_and_not_trained() -> None:
    work = replace(uneven((3, 5), (0, 2)), backward_layers=1)
    assert step_of(ROBERTA, work).n_trained_parameters == 2 * 2 * H + ROBERTA.n_head_parameters
    assert step_of(ROBERTA, work).n_held_parameters - step_of(ROBERTA, work).n_trained_parameters == (3 + 5) * 2 * H


def test_a_layer_without_adapters_keeps_no_input_for_them() -> None:
    whole, gap = (peak_memory(ROBERTA, uneven((4, 4), middle, (4, 4)), "fp32") for middle in ((4, 4), (0, 0)))
    # the input of query and value, and four numbers between A and B of each, in float32
    assert whole.activations_bytes - gap.activations_bytes == 4 * N_TOKENS * (H + 2 * 4)


def test_a_value_alone_in_the_lowest_layer_saves_the_gradients_of_the_scores() -> None:
    both, value = (step_of(ROBERTA, work).backward_flop for work in (uneven((4, 4)), uneven((0, 4))))
    # With the query: gradients of softmax (2 b s² h) and of the query (2 b s² h); the adapter's B and A, each product
    # 2 b s r h, and B's once more for its input.
    product = 2 * 4 * 128**2 * H
    assert both - value == 2 * product + 3 * 2 * N_TOKENS * 4 * H


def test_a_network_without_some_layers_costs_what_a_shallower_model_does() -> None:
    adapters = low_rank_adapters(ROBERTA, ("query", "value"), (8,) * 4)
    work = replace(UNIFORM, forward_layers=4, backward_layers=4, adapters=adapters, skipped_layers=8)
    shallow = replace(work, skipped_layers=0)
    model = replace(ROBERTA, n_layers=4)
    assert step_of(ROBERTA, work, "fp32").demand() == step_of(model, shallow, "fp32").demand()
    assert peak_memory(ROBERTA, work, "fp32") == peak_memory(model, shallow, "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "llama"])
@pytest.mark.parametrize(
    "target_ranks",
    [((0, 0), (0, 0), (3, 5)), ((0, 0), (0, 4), (2, 0)), ((4, 0), (0, 0), (1, 2)), ((2, 2), (0, 3), (0, 0))],
)
def test_layers_that_differ_cost_what_pytorch_counts_and_keep_what_it_keeps(
    family: str, target_ranks: tuple[tuple[int, int], ...]
) -> None:
    from tests.unit.world.price.autograd_probe import N_LAYERS, priced, run_step

    model = priced(family, "full")
    lowest = next(layer for layer, ranks in enumerate(target_ranks) if any(ranks))
    work = Work(
        n_steps=1,
        batch_size=2,
        seq_len=32,
        forward_layers=N_LAYERS,
        backward_layers=N_LAYERS - lowest,
        adapters=low_rank_adapters(model, ("query", "value"), target_ranks),
    )
    probe = run_step(family, work)
    assert step_of(model, work).forward_flop == pytest.approx(probe.forward_flop, rel=0.001)
    assert step_of(model, work).backward_flop == pytest.approx(probe.backward_flop, rel=0.002)
    assert peak_memory(model, work, "fp32").activations_bytes == pytest.approx(probe.kept_bytes, rel=0.05)
    assert n_backward_operations(Layers(model, work)) == pytest.approx(probe.n_backward_operations, rel=0.3)
