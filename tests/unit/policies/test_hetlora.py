"""HetLoRA: weights are Frobenius norms, ranks go by quarters and are pruned where the tail shrank."""

from typing import Any

import numpy as np
import pytest

from emulator.errors import ConfigError
from emulator.forms.lora_tail import TailAssignment, tail_product
from emulator.policy.catalog import build_policy
from emulator.records import Arrays, Update
from emulator.testing import small_testbed, tiny_model
from policies.hetlora import HetLora, pruned_rank

RNG = np.random.default_rng(3)


def update(device_id: int, rank: int, n_examples: int = 10, scale: float = 1.0) -> Update:
    """Random adapters of ``rank`` on the query and value of one layer of width 6, and a head of one number."""
    assignment = TailAssignment(
        device_id=device_id,
        n_steps=1,
        batch_size=1,
        learning_rate=1.0,
        ranks=(rank,),
        depth=1,
        kept_fraction=0.5,
        tail_weight=0.1,
    )
    payload = {"head.classifier.bias": np.full(1, device_id, np.float32)}
    for target in ("query", "value"):
        for matrix, shape in (("lora_A", (rank, 6)), ("lora_B", (6, rank))):
            payload[f"layers.0.{target}.{matrix}"] = (scale * RNG.standard_normal(shape)).astype(np.float32)
    return Update(device_id=device_id, assignment=assignment, payload=payload, n_examples=n_examples, metrics={})


def padded(update: Update, name: str, whole: tuple[int, ...]) -> np.ndarray:
    array = update.payload[name]
    return np.pad(array, [(0, size - own) for size, own in zip(whole, array.shape, strict=True)])


STATE: Arrays = {
    "head.classifier.bias": np.full(1, 50, np.float32),
    **{
        f"layers.0.{target}.{matrix}": np.full(shape, 9, np.float32)
        for target in ("query", "value")
        for matrix, shape in (("lora_A", (4, 6)), ("lora_B", (6, 4)))
    },
}


def aggregated(updates: list[Update]) -> Arrays:
    policy = HetLora(ranks=(1, 2, 4))
    return policy.aggregate(policy.form(tiny_model(1)), STATE, updates)


def test_each_device_counts_by_the_norm_of_its_products_and_is_padded_with_zeros() -> None:
    updates = [update(0, 1), update(1, 4, scale=0.5), update(2, 2, scale=2.0)]
    norms = []
    for one in updates:
        formed = [
            one.payload[f"layers.0.{target}.lora_B"].astype(np.float64) @ one.payload[f"layers.0.{target}.lora_A"]
            for target in ("query", "value")
        ]
        norms.append(np.sqrt(sum(np.linalg.norm(product) ** 2 for product in formed)))
    merged = aggregated(updates)
    for name in [name for name in STATE if name.startswith("layers")]:
        parts = [
            norm / sum(norms) * padded(one, name, STATE[name].shape) for norm, one in zip(norms, updates, strict=True)
        ]
        assert merged[name] == pytest.approx(sum(parts), rel=1e-5, abs=1e-6)


def test_a_rank_that_nobody_holds_keeps_its_value() -> None:
    merged = aggregated([update(0, 1), update(1, 2)])
    assert (merged["layers.0.query.lora_A"][2:] == 9).all()
    assert (merged["layers.0.query.lora_B"][:, 2:] == 9).all()
    assert not (merged["layers.0.query.lora_A"][:2] == 9).any()


def test_the_head_goes_by_numbers_of_examples() -> None:
    # (0 * 30 + 4 * 10) / 40 = 1, whatever the norms
    merged = aggregated([update(0, 1, n_examples=30), update(4, 4, n_examples=10, scale=9.0)])
    assert merged["head.classifier.bias"].tolist() == [1]


def test_where_nobody_has_learned_anything_numbers_of_examples_decide() -> None:
    updates = [update(0, 4, n_examples=30), update(1, 4, n_examples=10)]
    for one in updates:
        for target in ("query", "value"):
            one.payload[f"layers.0.{target}.lora_B"][:] = 0  # type: ignore[index]
    merged = aggregated(updates)
    own, other = (one.payload["layers.0.query.lora_A"] for one in updates)
    assert merged["layers.0.query.lora_A"] == pytest.approx(0.75 * own + 0.25 * other, rel=1e-5)


def test_the_tail_are_the_last_ranks() -> None:
    one = update(0, 4)
    assert isinstance(one.assignment, TailAssignment)
    expected = sum(
        np.linalg.norm(one.payload[f"layers.0.{target}.lora_B"][:, 2:])
        * np.linalg.norm(one.payload[f"layers.0.{target}.lora_A"][2:])
        for target in ("query", "value")
    )  # half of the ranks are kept
    assert tail_product(one.payload, one.assignment) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("rank", "before", "after", "expected"),
    [
        (16, 1.0, 0.9, 15),  # floor(0.99 * 16)
        (16, 1.0, 1.0, 16),
        (16, 1.0, 1.1, 16),
        (3, 1.0, 0.5, 2),
        (2, 1.0, 0.5, 2),  # not below the least rank
        (1, 1.0, 0.5, 1),  # a rank that is smaller by itself is not raised
    ],
)
def test_a_device_gives_up_ranks_only_where_their_tail_shrank(
    rank: int, before: float, after: float, expected: int
) -> None:
    assert pruned_rank(rank, {"tail_before": before, "tail_after": after}, 0.99, min_rank=2) == expected


def test_without_training_nothing_is_pruned() -> None:
    assert pruned_rank(16, {}, 0.99, min_rank=2) == 16


def test_unseen_devices_train_the_smallest_rank_and_then_ranks_go_by_quarters_of_speed() -> None:
    small = small_testbed(HetLora(), n_devices=12)
    first, second = small.play(2)
    assert ranks(first.plan) == dict.fromkeys(range(12), 2)
    # Devices are 1, 2 and 4 times as fast in turn: 0, 3, 6, 9 are the slowest four, 2, 5, 8, 11 the fastest.
    found = ranks(second.plan)
    assert {found[device] for device in (0, 3, 6, 9)} <= {2, 4}
    assert {found[device] for device in (2, 5, 8, 11)} <= {8, 16}
    assert sorted(found.values()) == [2] * 3 + [4] * 3 + [8] * 3 + [16] * 3


def test_scaling_and_learning_rate_are_multiples_that_can_be_set() -> None:
    changed = HetLora(scaling=0.5, learning_rate_scale=3.0)
    usual, other = (small_testbed(policy, n_devices=3) for policy in (HetLora(), changed))
    assert (usual.testbed.form.scaling, other.testbed.form.scaling) == (2.0, 0.5)  # type: ignore[attr-defined]
    [before], [after] = usual.play(1), other.play(1)
    for device, assignment in before.plan.assignments.items():
        assert after.plan.assignments[device].learning_rate == 3 * assignment.learning_rate


def ranks(plan: Any) -> dict[int, int]:
    assert all(len(set(one.ranks)) == 1 for one in plan.assignments.values())
    return {device: one.ranks[0] for device, one in plan.assignments.items()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ranks": (4, 2)}, r"ascending order, got \(4, 2\)"),
        ({"ranks": ()}, r"ranks .* at least 1 item"),
        ({"kept_fraction": 0.0}, r"kept_fraction .* greater than 0, got 0\.0"),
        ({"tail_weight": -1.0}, r"tail_weight .* greater than or equal to 0, got -1\.0"),
        ({"min_rank": 0}, r"min_rank .* greater than or equal to 1, got 0"),
        ({"ranks": (2, 4), "min_rank": 5}, "min_rank must be at most the largest of ranks, 4, got 5"),
    ],
)
def test_impossible_parameters_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_policy("hetlora", given)
