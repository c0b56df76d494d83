"""FedARA: the budget is met by votes, what is switched off stays off, and payload and depth follow the masks."""

import itertools
from typing import Any

import numpy as np
import pytest

from emulator.algorithms.ranks import cubic_budget
from emulator.errors import ConfigError
from emulator.forms.diagonal import DiagonalAssignment
from emulator.policy.catalog import build_policy
from emulator.records import Arrays, ClusterView, RoundPlan, TrainingDefaults, Update
from emulator.running.checkpoints.codec import decoded, encoded
from emulator.seeds import Seeds
from emulator.testing import small_testbed, tiny_model
from emulator.testing.small_world import tiny_state
from policies.fedara import FedAra, carried, evenly, rank_sizes

MODEL = tiny_model(3)
N_MATRICES = 6  # three layers, query and value


def view(round_index: int, state: Arrays) -> ClusterView:
    return ClusterView(
        round_index=round_index,
        now_s=0.0,
        model=MODEL,
        state=state,
        training=TrainingDefaults(n_steps=1, batch_size=1, learning_rate=0.1),
        n_devices=3,
        available=(0, 1, 2),
        declared={},
        rng=np.random.default_rng(0),
    )


def kept(plan: RoundPlan) -> DiagonalAssignment:
    """What all devices of a round hold."""
    found = list(plan.assignments.values())
    assert all(isinstance(one, DiagonalAssignment) for one in found)
    assert len({one.kept for one in found if isinstance(one, DiagonalAssignment)}) == 1
    return found[0]  # type: ignore[return-value]


def play(
    policy: FedAra, n_rounds: int, scores: Any, first: int = 0, state: Arrays | None = None
) -> tuple[list[DiagonalAssignment], list[Arrays]]:
    """Rounds in which device ``d`` scores its n ranks by ``scores(d, n)``, and trains by adding 1 to everything."""
    form = policy.form(MODEL)
    state = tiny_state(form, MODEL, Seeds(0)) if state is None else state
    held, states = [], []
    for round_index in range(first, n_rounds):
        plan = policy.plan(view(round_index, state))
        held.append(kept(plan))
        updates = []
        for device, assignment in plan.assignments.items():
            form.check(assignment, MODEL)
            own = scores(device, held[-1].n_kept).astype(np.float32)
            updates.append(
                Update(
                    device_id=device,
                    assignment=assignment,
                    payload={name: array + 1 for name, array in form.project(state, assignment).items()},
                    n_examples=10,
                    metrics={},
                    reported={"scores": own} if held[-1].reports_scores else {},
                )
            )
        state = policy.aggregate(form, state, updates)
        states.append(state)
    return held, states


def scored(scores: list[float], n_steps: int) -> Update:
    """An update that reports these scores."""
    assignment = DiagonalAssignment(device_id=0, n_steps=n_steps, batch_size=1, learning_rate=0.1, kept=())
    reported = {"scores": np.array(scores, np.float32)}
    return Update(device_id=0, assignment=assignment, payload={}, n_examples=1, metrics={}, reported=reported)


def flat(assignment: DiagonalAssignment) -> set[tuple[int, int, int]]:
    return {
        (layer, target, rank)
        for layer, targets in enumerate(assignment.kept)
        for target, ranks in enumerate(targets)
        for rank in ranks
    }


def test_every_round_has_exactly_its_budget_and_nothing_comes_back() -> None:
    rng = np.random.default_rng(1)
    policy = FedAra(first_rank=4, last_rank=0.5, warm_up_rounds=1, decline_rounds=4)

    held, states = play(policy, 8, lambda device, n: rng.random(n))

    budgets = [cubic_budget(t, 4 * N_MATRICES, 3, warm_up=1, decline=4) for t in range(8)]
    assert [one.n_kept for one in held] == budgets
    assert budgets[:2] == [24, 24]
    assert budgets[5:] == [3, 3, 3]
    for earlier, later in itertools.pairwise(held):
        assert flat(later) <= flat(earlier)
    for state, after in zip(states, held[1:], strict=False):
        alive = {
            (layer, target, int(rank))
            for layer in range(3)
            for target, name in enumerate(("query", "value"))
            for rank in np.flatnonzero(state[f"layers.{layer}.{name}.lora_E"])
        }
        assert alive == flat(after)


def test_devices_vote_only_where_the_next_budget_is_smaller() -> None:
    policy = FedAra(first_rank=4, last_rank=1, warm_up_rounds=2, decline_rounds=2)
    held, _ = play(policy, 6, lambda device, n: np.arange(n, dtype=float))
    # 24 ranks in rounds 0 to 2, then 6 + 18 / 8 = 8, then 6
    assert [one.n_kept for one in held] == [24, 24, 24, 8, 6, 6]
    assert [one.n_votes for one in held] == [0, 0, 8, 6, 0, 0]


def test_when_all_vote_for_the_upper_layers_bytes_and_depth_fall() -> None:
    policy = FedAra(first_rank=4, last_rank=1, warm_up_rounds=0, decline_rounds=3)
    form = policy.form(MODEL)

    held, _ = play(policy, 4, lambda device, n: np.arange(n, dtype=float))

    # 24, then 6 + floor(18 · 8 / 27) = 11, 6 + floor(18 / 27) = 6, 6 ranks; a matrix has four, so they lie in
    # the uppermost 6, 3, 2 and 2 matrices, which are two to a layer
    assert [one.n_kept for one in held] == [24, 11, 6, 6]
    assert [one.backward_layers for one in held] == [3, 2, 1, 1]
    n_bytes = [form.download_bytes(one, MODEL) - form.extra_download_bytes(one, MODEL) for one in held]
    assert n_bytes == [4 * (n * (16 + 16 + 1) + 51) for n in (24, 11, 6, 6)]
    assert [form.work(one, MODEL).backward_layers for one in held] == [3, 2, 1, 1]


def test_a_masked_rank_is_averaged_no_more() -> None:
    policy = FedAra(first_rank=4, last_rank=1, warm_up_rounds=0, decline_rounds=0)
    _, states = play(policy, 3, lambda device, n: np.arange(n, dtype=float))
    first = "layers.0.query."
    assert not states[0][f"{first}lora_E"].any()
    assert (states[2][f"{first}lora_A"] == states[0][f"{first}lora_A"]).all()
    top = "layers.2.value."
    assert states[2][f"{top}lora_A"] == pytest.approx(states[0][f"{top}lora_A"] + 2, rel=1e-6)


@pytest.mark.parametrize(("carries", "n_scoring"), [(True, 4), (False, 2)])
def test_scores_are_reported_from_the_start_where_they_are_carried_and_until_the_last_vote(
    carries: bool, n_scoring: int
) -> None:
    policy = FedAra(first_rank=4, last_rank=1, warm_up_rounds=2, decline_rounds=2, carries_scores=carries)
    held, _ = play(policy, 6, lambda device, n: np.arange(n, dtype=float))
    # Votes are in rounds 2 and 3.
    first = 4 - n_scoring
    assert [one.reports_scores for one in held] == [first <= round_index < 4 for round_index in range(6)]


def test_carried_scores_are_a_running_mean_over_the_devices_own_rounds() -> None:
    held = np.array([True, False, True])
    one = scored([3.0, 5.0], n_steps=2)
    # 0.85² of the old value is left after two steps; a rank that is not held keeps its score.
    assert carried(np.array([1.0, 7.0, 2.0]), held, one, memory=0.85**2) == pytest.approx(
        [0.7225 * 1 + 0.2775 * 3, 7, 0.7225 * 2 + 0.2775 * 5]
    )


@pytest.mark.parametrize(("carries", "kept_rank"), [(True, 0), (False, 1)])
def test_a_vote_goes_by_earlier_rounds_only_where_scores_are_carried(carries: bool, kept_rank: int) -> None:
    # With a rank for each device and m = 0.5: 0.5 · 8 · 0.5 = 2 and 0.5 · 2 = 1 for ranks 0 and 1 of each matrix.
    policy = FedAra(
        first_rank=2, last_rank=1, warm_up_rounds=1, decline_rounds=0, smoothing=0.5, carries_scores=carries
    )
    rounds = iter([np.tile([8.0, 0.0], N_MATRICES)] * 3 + [np.tile([0.0, 2.0], N_MATRICES)] * 3)
    held, _ = play(policy, 3, lambda device, n: next(rounds) if n == 2 * N_MATRICES else np.zeros(n))
    assert held[-1].kept == (((kept_rank,),) * 2,) * 3


def test_a_policy_that_recalls_its_memory_votes_as_the_one_that_never_stopped() -> None:
    def fresh() -> FedAra:
        return FedAra(first_rank=4, last_rank=1, warm_up_rounds=1, decline_rounds=3)

    def scores(device: int, n: int) -> Any:
        return np.random.default_rng((device, n)).random(n)

    whole, _ = play(fresh(), 5, scores)
    stopped, resumed = fresh(), fresh()
    begun, states = play(stopped, 2, scores)
    resumed.recall(decoded(encoded(dict(stopped.memory()), "the policy")))
    ended, _ = play(resumed, 5, scores, first=2, state=states[-1])

    assert begun + ended == whole
    forgetful = fresh()
    forgetful.recall(dict(stopped.memory()) | {"_scores": {}})
    assert play(forgetful, 5, scores, first=2, state=states[-1])[0] != ended


def test_the_scaling_is_alpha_over_the_ranks_at_the_start() -> None:
    # A published script with 12 ranks at the start has lora_alpha 32 (BART on XSum): 2.67.
    form = FedAra(first_rank=12, alpha=32.0, last_rank=1).form(MODEL)
    assert form.scaling == pytest.approx(32 / 12)


def test_all_linear_matrices_of_a_layer_can_have_adapters() -> None:
    every = ("query", "key", "value", "attention_output", "mlp_up", "mlp_down")
    small = small_testbed(
        FedAra(first_rank=2, last_rank=1, warm_up_rounds=0, decline_rounds=1, targets=every), trains=False
    )
    rounds = [kept(played.plan) for played in small.play(2)]
    n_matrices = len(every) * small.testbed.model.n_layers
    assert [one.n_kept for one in rounds] == [2 * n_matrices, n_matrices]


def test_without_votes_the_ranks_stay_and_the_next_votes_catch_up() -> None:
    policy = FedAra(first_rank=4, last_rank=1, warm_up_rounds=0, decline_rounds=2)
    form, state = policy.form(MODEL), tiny_state(policy.form(MODEL), MODEL, Seeds(0))
    policy.plan(view(0, state))
    policy.aggregate(form, state, [])
    one = kept(policy.plan(view(1, state)))
    assert (one.n_kept, one.n_votes) == (24, 6)


def test_without_training_the_budget_is_cut_evenly() -> None:
    small = small_testbed(FedAra(first_rank=4, last_rank=1, warm_up_rounds=0, decline_rounds=2), trains=False)
    rounds = [kept(played.plan) for played in small.play(4)]
    assert [one.n_kept for one in rounds] == [32, 11, 8, 8]  # 8 + 24 / 8 = 11
    assert rounds[-1].kept == (((0,), (0,)),) * 4
    assert evenly(3, 2, 4).tolist() == [True, True, True, False, True, False]


def test_a_rank_is_as_large_as_what_it_adds() -> None:
    state = tiny_state(FedAra(first_rank=4).form(MODEL), MODEL, Seeds(2))
    found = rank_sizes(state)
    for number, place in ((0, "layers.0.query."), (5, "layers.0.value."), (23, "layers.2.value.")):
        rank = number % 4
        a, b, e = (state[f"{place}{name}"].astype(float) for name in ("lora_A", "lora_B", "lora_E"))
        assert found[number] == pytest.approx(np.linalg.norm(e[rank] * np.outer(b[:, rank], a[rank])), rel=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"last_rank": 13.0}, r"last_rank must be at most first_rank, 12, got 13\.0"),
        ({"warm_up_rounds": -1}, r"warm_up_rounds .* greater than or equal to 0, got -1"),
        ({"smoothing": 1.0}, r"smoothing .* less than 1, got 1\.0"),
        ({"alpha": 0.0}, r"alpha .* greater than 0, got 0\.0"),
        ({"start": "zero"}, r"start .*'width', 'orthonormal' or 'fixed', got 'zero'"),
        ({"targets": []}, r"targets .* at least 1 item"),
        ({"orthogonality": -0.5}, r"orthogonality .* greater than or equal to 0, got -0\.5"),
    ],
)
def test_impossible_parameters_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_policy("fedara", given)
