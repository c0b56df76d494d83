"""SLoRA: a sparse stage, and its best approximation as the start of LoRA."""

import numpy as np

from emulator.forms.sparse_start import SparseStartAssignment, SparseStartLoraForm, dense_change
from emulator.records import RoundPlan, Status
from emulator.seeds import Seeds
from emulator.testing import small_testbed, tiny_model
from policies.fedlora import FedLora
from policies.slora import SLora, switched


def sparse_stages(plan: RoundPlan) -> set[bool]:
    return {one.trains_sparse for one in plan.assignments.values() if isinstance(one, SparseStartAssignment)}


def test_the_first_stage_lasts_as_many_rounds_as_are_said_in_which_somebody_delivers() -> None:
    def trouble(round_index: int) -> dict[int, Status]:
        return dict.fromkeys(range(3), Status.DROPPED) if round_index == 0 else {}

    played = small_testbed(SLora(sparse_rounds=2), n_devices=3, trouble=trouble).play(5)
    assert [sparse_stages(one.plan) for one in played] == [{True}, {True}, {True}, {False}, {False}]


def test_in_the_first_stage_adapters_stay_and_sparse_entries_are_averaged_by_examples() -> None:
    played = small_testbed(SLora(sparse_rounds=3), n_devices=3, n_layers=2).play_round()
    total = sum(update.n_examples for update in played.updates)

    assert not any("lora" in name for update in played.updates for name in update.payload)
    name = "layers.0.value.sparse"
    expected = sum(update.n_examples / total * update.payload[name] for update in played.updates)
    assert np.allclose(played.after[name], expected, atol=1e-6)
    assert np.array_equal(played.after["layers.0.value.lora_B"], played.before["layers.0.value.lora_B"])


def test_the_switch_gives_the_best_adapters_of_the_change_and_the_weights_their_old_values() -> None:
    model = tiny_model(2)
    form = SparseStartLoraForm(ranks=(4, 4), density=0.2)
    rng = np.random.default_rng(1)
    state = {
        name: rng.standard_normal(array.shape).astype(np.float32)
        for name, array in form.initial(model, Seeds(0)).items()
    }
    after = switched(form, state)

    change = dense_change(state["layers.1.query.sparse"], form.positions(1, "query", 16, 16), 16, 16)
    product = form.scaling * after["layers.1.query.lora_B"].astype(np.float64) @ after["layers.1.query.lora_A"]
    rest = np.linalg.svd(change.astype(np.float64), compute_uv=False)[4:]
    assert np.isclose(np.linalg.norm(change - product), np.sqrt((rest**2).sum()), rtol=1e-5)
    assert not after["layers.1.query.sparse"].any()


def test_positions_are_distinct_and_others_for_each_matrix_and_seed() -> None:
    form = SparseStartLoraForm(ranks=(2, 2), density=0.1)
    own = form.positions(0, "query", 16, 16)

    assert len(set(own.tolist())) == len(own) == 26
    assert own.max() < 256
    others = [form.positions(1, "query", 16, 16), form.positions(0, "value", 16, 16)]
    others.append(SparseStartLoraForm(ranks=(2, 2), density=0.1, support_seed=1).positions(0, "query", 16, 16))
    assert all(not np.array_equal(own, other) for other in others)


def test_bytes_are_the_entries_first_and_those_of_fedlora_then() -> None:
    small, plain = (
        small_testbed(policy, n_devices=2, n_layers=3)
        for policy in (SLora(rank=4, sparse_rounds=1, density=0.1), FedLora(rank=4))
    )
    form, model = small.testbed.form, small.testbed.model
    [first, second] = [played.plan.assignments[0] for played in small.play(2)]
    reference = plain.play_round().plan.assignments[0]

    entries = 4 * (3 * 2 * 26 + model.n_head_parameters)
    assert form.download_bytes(first, model) == form.upload_bytes(first, model) == entries
    assert form.download_bytes(second, model) == plain.testbed.form.download_bytes(reference, model)
    # Six matrices of 16 x 16: their gradients, 2 FLOP for each entry and token.
    extra = [adapter.backward_flop for layer in form.work(first, model).adapters.layers for adapter, _ in layer]
    assert extra == [2 * 256] * 6


def test_without_a_first_stage_adapters_are_averaged_as_in_fedlora() -> None:
    played = small_testbed(SLora(sparse_rounds=0, rank=3), n_devices=3, n_layers=2).play_round()
    total = sum(update.n_examples for update in played.updates)

    assert sparse_stages(played.plan) == {False}
    for name in ("layers.0.query.lora_A", "layers.1.value.lora_B"):
        expected = sum(update.n_examples / total * update.payload[name] for update in played.updates)
        assert np.allclose(played.after[name], expected, atol=1e-6)
