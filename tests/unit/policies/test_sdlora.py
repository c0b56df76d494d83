"""SD-LoRA: phases, what is frozen as one ends, and what travels."""

import numpy as np
import pytest

from emulator.forms.decoupled_lora import DecoupledAssignment, DecoupledLoraForm, folded
from emulator.records import Arrays
from emulator.seeds import Seeds
from emulator.testing import small_testbed, tiny_model
from emulator.testing.small_world import tiny_state
from policies.sdlora import SdLora

FORM = DecoupledLoraForm(ranks=(2,) * 3, scaling=1.0, most_frozen=2)
PLACE = "layers.1.query."
H = 16


def state() -> Arrays:
    """With the first direction frozen, as after one phase."""
    made = tiny_state(FORM, tiny_model(3), Seeds(0))
    empty = {name: np.zeros_like(array) for name, array in made.items() if ".frozen_" in name}
    return FORM.frozen({**made, **empty}, 0, draw_seed=4, restarts=False)


def product(arrays: Arrays, place: str = PLACE) -> np.ndarray:
    """What is added to a matrix."""
    as_lora = folded(arrays)
    return np.asarray(as_lora[f"{place}lora_B"] @ as_lora[f"{place}lora_A"])


def with_b(arrays: Arrays) -> Arrays:
    """New adapters that have learnt something."""
    rng = np.random.default_rng(1)
    return {
        name: rng.standard_normal(array.shape).astype(np.float32) if name.endswith("lora_B") else array
        for name, array in arrays.items()
    }


def test_frozen_directions_have_norm_1_and_the_model_stays_what_it_was() -> None:
    before = with_b(state())
    after = FORM.frozen(before, 1, draw_seed=5, restarts=False)
    for rows in (slice(0, 2), slice(2, 4)):
        a, b = after[f"{PLACE}frozen_A"][rows], after[f"{PLACE}frozen_B"][:, rows]
        assert np.linalg.norm(a) * np.linalg.norm(b) == pytest.approx(1, abs=1e-6)
    assert np.allclose(product(after), product(before), atol=1e-5)
    assert not after[f"{PLACE}lora_B"].any()
    assert after[f"{PLACE}lora_magnitude"].item() == pytest.approx(0.8)


def test_the_size_of_what_is_frozen_counts_nothing_where_magnitudes_restart() -> None:
    once = with_b(state())
    larger = {name: 7 * array if name.endswith("lora_B") else array for name, array in once.items()}
    one, other = (FORM.frozen(each, 1, draw_seed=5, restarts=True) for each in (once, larger))
    assert np.allclose(product(one), product(other), atol=1e-6)
    assert np.allclose(one[f"{PLACE}frozen_magnitude"], 0.8)


def test_adapters_that_learnt_nothing_become_a_direction_that_adds_nothing() -> None:
    made = FORM.initial(tiny_model(3), Seeds(0))
    after = FORM.frozen(made, 0, draw_seed=1, restarts=True)
    assert not product(after).any()
    assert all(np.isfinite(array).all() for array in after.values())


def test_directions_are_held_and_sent_as_they_are_frozen_and_never_trained() -> None:
    held = DecoupledAssignment(
        device_id=0,
        n_steps=1,
        batch_size=2,
        learning_rate=0.1,
        ranks=(2,) * 3,
        depth=3,
        n_frozen=1,
        n_lacking=1,
    )
    model = tiny_model(3)
    payload = FORM.project(state(), held)
    shapes = {name.removeprefix(PLACE): array.shape for name, array in payload.items() if name.startswith(PLACE)}
    assert shapes == {
        "lora_A": (2, H),
        "lora_B": (H, 2),
        "lora_magnitude": (1, 1),
        "frozen_A": (2, H),
        "frozen_B": (H, 2),
        "frozen_magnitude": (1, 1),
    }
    n_adapters, n_direction = 3 * 2, 2 * 2 * H
    assert FORM.upload_bytes(held, model) == 4 * (n_adapters * (n_direction + 2) + model.n_head_parameters)
    assert FORM.download_bytes(held, model) == FORM.upload_bytes(held, model) + 4 * n_adapters * n_direction
    trained = {name for name in payload if FORM.is_trained(name, held, model)}
    assert {name.removeprefix(PLACE) for name in trained if name.startswith(PLACE)} == {
        "lora_A",
        "lora_B",
        "lora_magnitude",
        "frozen_magnitude",
    }


def test_the_first_phase_costs_what_lora_does_and_a_direction_adds_its_products() -> None:
    model = tiny_model(3)
    settings = {"device_id": 0, "n_steps": 1, "batch_size": 2, "learning_rate": 0.1, "ranks": (2,) * 3, "depth": 3}
    first, second = (
        FORM.work(DecoupledAssignment(**settings, n_frozen=n, n_lacking=0), model)  # type: ignore[arg-type]
        for n in (0, 1)
    )
    assert first.adapters.ranks == second.adapters.ranks == (2, 2, 2)
    added = [
        (adapter, number) for adapter, number in second.adapters.at(0) if adapter not in dict(first.adapters.at(0))
    ]
    assert [(adapter.place, number) for adapter, number in added] == [("query", 2), ("value", 2)]
    assert {adapter.forward_flop for adapter, _ in added} == {2 * 2 * H}
    assert {adapter.n_parameters for adapter, _ in added} == {0}


def test_phases_end_on_their_last_round_and_every_device_gets_a_direction_once() -> None:
    small = small_testbed(SdLora(rank=2, phase_rounds=2, n_phases=2), n_devices=3, n_layers=2)
    rounds = small.play(5)
    asked = [played.plan.assignments[1] for played in rounds]
    assert all(isinstance(one, DecoupledAssignment) for one in asked)
    assert [(one.n_frozen, one.n_lacking) for one in asked] == [(0, 0), (0, 0), (1, 1), (1, 0), (1, 0)]  # type: ignore[attr-defined]
    name = "layers.0.query.frozen_B"
    assert np.array_equal(rounds[0].after[name], rounds[0].before[name])
    assert np.linalg.norm(rounds[1].after[name]) == pytest.approx(1, abs=1e-6)
    assert all(np.array_equal(played.after[name], rounds[1].after[name]) for played in rounds[2:])


def test_one_phase_never_ends() -> None:
    rounds = small_testbed(SdLora(rank=2, phase_rounds=1, n_phases=1), n_devices=3, n_layers=2).play(3)
    name = "layers.0.query.frozen_B"
    assert np.array_equal(rounds[-1].after[name], rounds[0].before[name])
