"""What forms compute beside local steps: merging a residual, scoring units and ranks; closed forms by hand."""

from dataclasses import replace

import pytest

from emulator.forms.diagonal import DiagonalAssignment, DiagonalLoraForm
from emulator.forms.kept_units import KeptUnits
from emulator.forms.pruned_lora import Importance, PrunedLoraAssignment, PrunedLoraForm
from emulator.forms.residual import ResidualAssignment, ResidualLoraForm
from emulator.records import NO_EXTRA, Extra
from emulator.shapes.catalog import model_spec

MODEL = model_spec("bert-base", n_labels=2, seq_len=16, head="output")
N, H, F, LAYERS = 4, 768, 3072, 12
USUAL = {"device_id": 0, "n_steps": 3, "batch_size": N, "learning_rate": 0.1}


def extra(flop: float, n_numbers: float, n_operations: int) -> Extra:
    """Of float32 numbers that are read or written."""
    return Extra(pytest.approx(flop), pytest.approx(4 * n_numbers), n_operations)  # type: ignore[arg-type]


def residual(rank: int | tuple[int, ...]) -> ResidualAssignment:
    return ResidualAssignment(**USUAL, depth=12, ranks=(8,) * 12, residual_rank=rank)  # type: ignore[arg-type]


def test_a_residual_is_merged_as_a_product_of_its_factors() -> None:
    form = ResidualLoraForm(ranks=(8,) * 12, restarts=True)
    work = form.work(residual(80), MODEL)
    # Query and value of each layer: W + B A is a product of rank 80; factors are read, W is read and written.
    n_matrices = 2 * LAYERS
    flop, numbers = 2 * 80 * H * H, 2 * H * H + 80 * 2 * H
    assert work.once == extra(n_matrices * flop, n_matrices * numbers, n_matrices)
    assert work.per_step == NO_EXTRA


def test_a_residual_that_comes_whole_is_added_and_none_costs_nothing() -> None:
    form = ResidualLoraForm(ranks=(8,) * 12)
    assert form.work(residual(400), MODEL).once == extra(0, 2 * LAYERS * 3 * H * H, 2 * LAYERS)  # 400 · 2 H > H²
    assert form.work(residual(0), MODEL).once == NO_EXTRA
    first_alone = form.work(residual((1,) + (0,) * 11), MODEL).once
    assert first_alone == extra(2 * 2 * H * H, 2 * (2 * H * H + 2 * H), 2)


def scoring(importance: Importance, targets: tuple[str, ...], depth: int = 2) -> Extra:
    kept = KeptUnits.all_of(LAYERS, MODEL.n_kv_heads, F)
    ranks = (0,) * (LAYERS - depth) + (8,) * depth
    form = PrunedLoraForm(ranks=(8,) * 12, targets=targets)
    assignment = PrunedLoraAssignment(**USUAL, ranks=ranks, depth=depth, kept=kept, importance=importance)  # type: ignore[arg-type]
    return form.work(assignment, MODEL).per_step


def test_scores_by_gradient_are_two_products_a_matrix() -> None:
    per_matrix = (4 * 8 + 2 * 8) * H * H  # of ranks 2 r and r
    numbers = 9 * H * H + (6 + 4) * 8 * 2 * H + 3 * 8 * H
    # Channels have no adapter: the input of mlp_down times its gradient, and its sum, for each token.
    channels = 4 * N * 16 * F
    found = scoring("gradient", ("query", "value"))
    assert found == extra(2 * 2 * per_matrix, 2 * (2 * numbers + channels), 2 * (2 * 14 + 4))


def test_scores_by_magnitude_and_by_first_order() -> None:
    assert scoring("none", ("query",)) == NO_EXTRA
    adapter = 6 * 8 * 2 * H
    # Channels go by the frozen weights of all layers: of mlp_up and mlp_down a magnitude and a sum.
    frozen = LAYERS * 2 * 3 * H * F
    magnitude = scoring("magnitude", ("query",))
    assert magnitude == extra(2 * 2 * 8 * H * H, 2 * (adapter + 5 * H * H) + frozen, 2 * (6 + 3) + LAYERS * 2 * 2)
    taylor = scoring("taylor", ("query",))
    assert taylor == extra(0, 2 * (adapter + 4 * N * 16 * (H + F)), 2 * (6 + 2 * 4))


def test_scores_of_ranks_follow_the_ranks_that_are_left() -> None:
    form = DiagonalLoraForm(rank=4)
    kept = (((), ()),) * 11 + (((0, 1, 2), ()),)
    silent = DiagonalAssignment(**USUAL, kept=kept)  # type: ignore[arg-type]
    assert form.work(silent, MODEL).per_step == form.work(silent, MODEL).once == NO_EXTRA
    for votes in (replace(silent, n_votes=2), replace(silent, reports_scores=True)):
        work = form.work(votes, MODEL)
        assert work.per_step == extra(0, 16 * 3 * (2 * H + 1), 18)
        assert work.once == extra(0, 4 * 3 * (2 * H + 1), 6)
    regular = form.work(replace(silent, orthogonality=0.1), MODEL)
    # A A' and B' B forward, and two products each for their gradients.
    assert regular.per_step == extra(3 * 2 * 3 * 3 * 2 * H, 6 * 3 * 2 * H, 14)
