"""The LoRA form: what a device holds, how it comes back, what it costs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.forms.lora import LoraAssignment, LoraForm, adapter_name, lora_assignment, lora_plan
from emulator.records import Arrays, ClusterView, TrainingDefaults, Update
from emulator.seeds import Seeds
from emulator.testing import tiny_model, tiny_state

MODEL = tiny_model(n_layers=3)  # width 16; the head is 16 x 3 with a bias
FORM = LoraForm(ranks=(2, 3, 4))
STATE = tiny_state(FORM, MODEL, Seeds(0))
TRAINING = TrainingDefaults(n_steps=5, batch_size=8, learning_rate=0.1)
HEAD_PARAMETERS = 16 * 3 + 3


def holding(*ranks: int, depth: int = 3) -> LoraAssignment:
    return LoraAssignment(device_id=0, n_steps=5, batch_size=8, learning_rate=0.1, ranks=ranks, depth=depth)


def returned(payload: Arrays, assignment: LoraAssignment) -> Update:
    return Update(device_id=0, assignment=assignment, payload=payload, n_examples=1, metrics={})


def test_adapters_start_with_b_at_zero_and_a_within_the_bound_of_peft() -> None:
    arrays = FORM.initial(MODEL, Seeds(0))

    for layer, rank in enumerate(FORM.ranks):
        lora_a, lora_b = (arrays[adapter_name(layer, "value", matrix)] for matrix in ("lora_A", "lora_B"))
        assert (lora_a.shape, lora_b.shape) == ((rank, 16), (16, rank))
        # kaiming_uniform(a = sqrt 5) of PEFT: bound = sqrt(6 / ((1 + 5) fan_in)) = 1 / sqrt(16)
        assert 0.2 < np.abs(lora_a).max() <= 0.25
        assert not lora_b.any()


def test_a_layer_of_rank_zero_has_no_adapter() -> None:
    names = LoraForm(ranks=(0, 2, 2)).initial(MODEL, Seeds(0))

    assert {name.split(".")[1] for name in names} == {"1", "2"}


def test_an_adapter_starts_alike_whatever_the_ranks_of_the_layers_behind_it() -> None:
    name = adapter_name(0, "query", "lora_A")

    assert np.array_equal(
        LoraForm(ranks=(2, 3, 4)).initial(MODEL, Seeds(0))[name],
        LoraForm(ranks=(2, 1, 9)).initial(MODEL, Seeds(0))[name],
    )


def test_a_device_gets_the_first_rows_of_a_the_first_columns_of_b_and_the_head() -> None:
    payload = FORM.project(STATE, holding(0, 1, 4))

    assert {name.split(".")[1] for name in payload if name.startswith("layers.")} == {"1", "2"}
    assert np.array_equal(payload["layers.1.query.lora_A"], STATE["layers.1.query.lora_A"][:1])
    assert np.array_equal(payload["layers.1.query.lora_B"], STATE["layers.1.query.lora_B"][:, :1])
    assert np.array_equal(payload["head.classifier.weight"], STATE["head.classifier.weight"])


@given(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 4)))
def test_what_was_projected_is_embedded_where_it_came_from(ranks: tuple[int, ...]) -> None:
    assignment = holding(*ranks)

    embedded = FORM.embed(returned(FORM.project(STATE, assignment), assignment), STATE)

    for name, array in embedded.arrays.items():
        held = embedded.support.get(name, np.ones(array.shape, bool))
        assert np.array_equal(array, np.where(held, STATE[name], 0))
        expected_share = ranks[int(name.split(".")[1])] / FORM.ranks[int(name.split(".")[1])] if "lora" in name else 1
        assert held.mean() == expected_share


def test_what_a_device_holds_whole_needs_no_mask() -> None:
    assignment = holding(2, 3, 2)

    support = FORM.embed(returned(FORM.project(STATE, assignment), assignment), STATE).support

    assert {name.split(".")[1] for name in support} == {"2"}


def test_bytes_are_four_per_parameter_of_what_travels() -> None:
    assignment = holding(2, 3, 1, depth=1)

    # Both adapted matrices are 16 x 16: a rank costs 2 * (16 + 16) = 64 parameters.
    assert FORM.download_bytes(assignment, MODEL) == 4 * (64 * (2 + 3 + 1) + HEAD_PARAMETERS)
    assert FORM.upload_bytes(assignment, MODEL) == 4 * (64 * 1 + HEAD_PARAMETERS)


def test_at_depth_zero_only_the_head_is_sent_back() -> None:
    assignment = holding(2, 3, 4, depth=0)

    assert FORM.upload_bytes(assignment, MODEL) == 4 * HEAD_PARAMETERS
    assert list(assignment.trained_layers) == []


def test_downloaded_bytes_are_those_of_the_projected_arrays() -> None:
    assignment = holding(1, 0, 4)

    assert FORM.download_bytes(assignment, MODEL) == sum(a.nbytes for a in FORM.project(STATE, assignment).values())


def test_more_targets_cost_more_by_their_sizes() -> None:
    form = replace(FORM, targets=("query", "mlp_up"))  # 16 x 16 and 16 -> 32

    assert form.download_bytes(holding(1, 0, 0), MODEL) == 4 * (16 + 16 + 16 + 32 + HEAD_PARAMETERS)


def test_work_is_a_full_forward_pass_and_a_backward_pass_of_the_depth() -> None:
    work = FORM.work(holding(2, 3, 4, depth=1), MODEL)

    assert (work.forward_layers, work.backward_layers, work.adapters.ranks) == (3, 1, (2, 3, 4))
    assert (work.n_steps, work.batch_size, work.seq_len, work.adapters.places) == (5, 8, MODEL.seq_len, FORM.targets)


def test_another_kind_of_assignment_is_refused() -> None:
    from emulator.records import Assignment

    with pytest.raises(ValueError, match="LoraForm takes a LoraAssignment, not a Assignment"):
        FORM.check(Assignment(device_id=0, n_steps=1, batch_size=1, learning_rate=0.1), MODEL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": [2, 3, 4]}, "the form's ranks must be a tuple with one entry for each of 3 layers, got [2, 3, 4]"),
        ({"ranks": (2, 3)}, "the form's ranks must be a tuple with one entry for each of 3 layers, got (2, 3)"),
        ({"ranks": (2, -3, 4)}, "the form's rank at layer 1 must be a whole number of at least 0, got -3"),
        ({"ranks": (2, 3.0, 4)}, "the form's rank at layer 1 must be a whole number of at least 0, got 3.0"),
        ({"ranks": (True, 3, 4)}, "the form's rank at layer 0 must be a whole number of at least 0, got True"),
        ({"ranks": (0, 0, 0)}, "at least one of the form's ranks must be positive, got (0, 0, 0)"),
        (
            {"ranks": (2, 3, 17), "targets": ("mlp_up", "query")},
            "the form's rank at layer 2 must be at most 16, the smaller side of 'mlp_up', got 17",
        ),
        ({"targets": ("query", "mlp_gate")}, "a target must be one of the model's query, key, value, "),
        ({"targets": ("query", 3)}, "a target must be one of the model's query, key, value, "),
        ({"targets": "query"}, "targets must be a tuple of at least one of query, key, value, "),
        ({"targets": ()}, "targets must be a tuple of at least one of query, key, value, "),
        ({"targets": ("query", "query")}, "targets must name each matrix once, got ('query', 'query')"),
        ({"scaling": float("nan")}, "scaling must be a finite number of at most 3.4e+38 in magnitude, got nan"),
        ({"scaling": -1e39}, "scaling must be a finite number of at most 3.4e+38 in magnitude, got -1e+39"),
        ({"scaling": "2"}, "scaling must be a finite number of at most 3.4e+38 in magnitude, got '2'"),
    ],
)
def test_a_form_that_is_impossible_for_the_model_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        replace(FORM, **changes).check_model(MODEL)

    assert str(refused.value).startswith(message)


def test_a_layer_without_an_adapter_and_the_highest_rank_are_possible() -> None:
    replace(FORM, ranks=(0, 16, np.int64(3))).check_model(MODEL)


@pytest.mark.parametrize(("hold_below", "held"), [(True, (2, 3, 4)), (False, (0, 0, 4))])
def test_adapters_below_the_depth_are_held_on_demand(hold_below: bool, held: tuple[int, ...]) -> None:
    assignment = lora_assignment(7, TRAINING, FORM.ranks, 1, hold_below=hold_below)

    assert (assignment.ranks, assignment.depth, assignment.device_id) == (held, 1, 7)
    assert (assignment.n_steps, assignment.batch_size, assignment.learning_rate) == (5, 8, 0.1)


def test_a_plan_gives_each_device_its_depth() -> None:
    view = ClusterView(
        round_index=0,
        now_s=0.0,
        model=MODEL,
        state={},
        training=TRAINING,
        n_devices=9,
        available=(1, 4, 8),
        declared={},
        rng=np.random.default_rng(0),
    )

    plan = lora_plan(view, FORM.ranks, {8: 1, 4: 3})

    assert {number: found.device_id for number, found in plan.assignments.items()} == {8: 8, 4: 4}
    assert [plan.assignments[number].trained_layers for number in (8, 4)] == [range(2, 3), range(3)]  # type: ignore[attr-defined]
