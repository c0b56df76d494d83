"""Units go by importance, never come back, and end at exactly the sparsity that is asked for."""

import numpy as np
import pytest

from emulator.forms.kept_units import (
    KeptUnits,
    common_units,
    cubic_sparsity,
    n_units_elsewhere,
    pruned_to,
    pruned_to_sparsity,
    rounds_of_steps,
    score_name,
    scores_in_state,
    stage_of,
    staged_sparsity,
    unit_sums,
)
from emulator.records import Arrays


def scores(heads: list[list[float]], channels: list[list[float]]) -> Arrays:
    given = {"head": heads, "channel": channels}
    return {
        score_name(layer, kind): np.array(values, np.float32)  # type: ignore[arg-type]
        for kind, layers in given.items()
        for layer, values in enumerate(layers)
    }


def random_scores(seed: int, n_layers: int, n_heads: int, n_channels: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return scores(rng.random((n_layers, n_heads)).tolist(), rng.random((n_layers, n_channels)).tolist())


def test_the_least_important_go_over_all_layers() -> None:
    whole = KeptUnits.all_of(2, 3, 4)
    given = scores([[5, 1, 4], [2, 6, 3]], [[1, 1, 8, 8], [8, 8, 1, 8]])

    kept = pruned_to(whole, given, {"head": 2, "channel": 3})

    assert kept.heads == (b"\1\0\1", b"\0\1\1")
    assert kept.channels == (b"\0\0\1\1", b"\1\1\0\1")


def test_a_layer_keeps_its_last_unit_and_another_layer_gives_one_instead() -> None:
    whole = KeptUnits.all_of(2, 2, 2)
    given = scores([[1, 2], [8, 9]], [[1, 2], [8, 9]])

    kept = pruned_to(whole, given, {"head": 2, "channel": 4})

    assert kept.heads == (b"\0\1", b"\0\1")
    assert kept.channels == (b"\0\1", b"\0\1")  # more than this cannot go


def test_of_equal_scores_the_unit_nearest_to_the_input_goes_first() -> None:
    whole = KeptUnits.all_of(2, 2, 2)
    given = scores([[1, 1], [1, 1]], [[1, 1], [1, 1]])

    assert pruned_to(whole, given, {"head": 1, "channel": 0}).heads == (b"\0\1", b"\1\1")


def test_what_is_pruned_never_comes_back_whatever_the_scores() -> None:
    kept = KeptUnits.all_of(3, 4, 16)
    for step, sparsity in enumerate([0.1, 0.3, 0.2, 0.5, 0.5]):
        before, kept = kept, pruned_to_sparsity(kept, random_scores(step, 3, 4, 16), sparsity)
        for kind in ("head", "channel"):
            for old, new in zip(before.masks(kind), kept.masks(kind), strict=True):
                assert not (new & ~old).any()
    assert (kept.n_pruned("head"), kept.n_pruned("channel"), kept.kept_fraction) == (6, 24, 0.5)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.3, 0.5, 0.7])
def test_the_sparsity_is_met_to_a_unit(sparsity: float) -> None:
    kept = pruned_to_sparsity(KeptUnits.all_of(12, 4, 256), random_scores(1, 12, 4, 256), sparsity)

    assert kept.n_pruned("head") == round(sparsity * 48)
    assert kept.n_pruned("channel") == round(sparsity * 3072)


def test_the_cubic_schedule_is_its_closed_form() -> None:
    # p_f - p_f (1 - k/4)^3 with p_f = 0.64: 64 parts of 0.01, of which 27, 8, 1 and 0 are left to go
    found = [cubic_sparsity(t, 2, 4, 0.64) for t in range(8)]

    assert found == pytest.approx([0, 0, 0, 0.37, 0.56, 0.63, 0.64, 0.64])
    assert found[-1] == 0.64


def test_the_common_network_is_as_sparse_as_the_mean_and_goes_by_the_vote() -> None:
    whole = KeptUnits.all_of(1, 4, 4)
    first = KeptUnits(heads=(b"\0\0\1\1",), channels=(b"\1\1\1\1",))
    second = KeptUnits(heads=(b"\1\0\0\1",), channels=(b"\1\1\1\1",))
    third = KeptUnits(heads=(b"\0\1\1\1",), channels=(b"\1\1\1\1",))

    # weights 1, 1, 2: heads pruned on average (2 + 2 + 2 * 1) / 4 = 1.5, rounded to 2 (half to even);
    # kept by 1/4, 3/4 - 1/4 = 2/4, 3/4 and 4/4 of the weight
    common = common_units(whole, [first, second, third], [1, 1, 2])

    assert common.heads == (b"\0\0\1\1",)
    assert common.channels == whole.channels


def test_the_common_network_never_regains_a_unit() -> None:
    before = KeptUnits(heads=(b"\0\1\1\1",), channels=(b"\1\1",))
    other = KeptUnits(heads=(b"\1\0\1\1",), channels=(b"\1\1",))

    common = common_units(before, [other], [1])

    assert common.heads == (b"\0\1\1\1",)  # one head is gone on average, and it is gone already


def test_masks_survive_the_server_state() -> None:
    kept = pruned_to_sparsity(KeptUnits.all_of(3, 4, 16), random_scores(0, 3, 4, 16), 0.4)

    assert KeptUnits.in_state(kept.arrays()) == kept
    assert KeptUnits.in_state({"head.classifier.weight": np.zeros((2, 2), np.float32)}) is None


@pytest.mark.parametrize(
    ("kept", "total", "n_units", "expected"),
    [(4, 4, 12, 12), (3, 4, 12, 9), (1, 4, 12, 3), (1, 2, 3, 2), (1, 256, 12, 1), (128, 256, 3072, 1536)],
)
def test_shares_carry_over_to_another_model_as_whole_units(kept: int, total: int, n_units: int, expected: int) -> None:
    assert n_units_elsewhere(kept, total, n_units) == expected


def test_it_is_time_to_prune_in_the_first_round_and_after_each_interval() -> None:
    assert [stage_of(index, first_round=2, interval=3) for index in range(9)] == [0, 0, 1, 1, 1, 2, 2, 2, 3]


def test_a_stage_prunes_what_the_schedule_has_in_its_last_round() -> None:
    found = [staged_sparsity(index, first_round=1, interval=2, n_rounds=4, target=0.5) for index in range(7)]

    # the stages are rounds 1 and 2, 3 and 4, 5 and 6; the law in rounds 2, 4 and 6 is at 1/4, 3/4 and 1
    first, second = 0.5 * (1 - 0.75**3), 0.5 * (1 - 0.25**3)
    assert found == pytest.approx([0, first, first, second, second, 0.5, 0.5])


def test_stages_of_one_round_are_the_cubic_law() -> None:
    for index in range(9):
        assert staged_sparsity(index, 2, 1, 5, 0.4) == cubic_sparsity(index, 2, 5, 0.4)


@pytest.mark.parametrize(("n_steps", "per_round", "expected"), [(20, 4, 5), (20, 3, 7), (1, 4, 1), (20, 42, 1)])
def test_steps_are_rounded_up_to_whole_rounds(n_steps: int, per_round: int, expected: int) -> None:
    assert rounds_of_steps(n_steps, per_round) == expected


def test_sums_run_over_the_rows_of_a_unit_or_the_columns_of_what_reads_it() -> None:
    sizes = np.arange(8, dtype=np.float32).reshape(4, 2)

    assert unit_sums(sizes, "query", 2).tolist() == [0 + 1 + 2 + 3, 4 + 5 + 6 + 7]
    assert unit_sums(sizes, "mlp_down", 2).tolist() == [0 + 2 + 4 + 6, 1 + 3 + 5 + 7]


def test_a_state_has_scores_or_none() -> None:
    state = {**random_scores(0, 1, 2, 3), "layers.0.head_mask": np.ones(2, np.float32)}

    found = scores_in_state(state)
    assert found is not None
    assert set(found) == {"layers.0.head_score", "layers.0.channel_score"}
    assert scores_in_state({"layers.0.head_mask": np.ones(2, np.float32)}) is None
