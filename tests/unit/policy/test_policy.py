"""The base class of policies: its example works as it stands, and its defaults are the weighted means."""

import inspect
import textwrap
from dataclasses import dataclass

import numpy as np

from emulator.algorithms.aggregation import Contribution
from emulator.forms.lora import LoraForm, lora_plan
from emulator.policy import Policy
from emulator.testing import small_testbed
from policies.fedlora import FedLora


def test_the_example_of_the_docstring_is_a_working_policy() -> None:
    example = inspect.getdoc(Policy).partition("Example::")[2]  # type: ignore[union-attr]
    names = {"dataclass": dataclass, "Policy": Policy, "LoraForm": LoraForm, "lora_plan": lora_plan}
    exec(textwrap.dedent(example), names)

    rounds = small_testbed(names["Half"](), n_devices=6).play(2)  # type: ignore[operator]

    assert [len(played.plan.assignments) for played in rounds] == [3, 3]


def test_updates_are_merged_by_the_devices_numbers_of_examples() -> None:
    [played] = small_testbed(FedLora(rank=2), n_devices=2).play(1)

    name = "layers.3.value.lora_B"
    first, second = (update.payload[name].astype(np.float64) for update in played.updates)
    weights = [update.n_examples for update in played.updates]
    mean = (weights[0] * first + weights[1] * second) / sum(weights)
    assert np.array_equal(played.after[name], mean.astype(np.float32))


def test_groups_are_merged_by_their_weights() -> None:
    state = {"w": np.zeros(1, np.float32)}
    groups = [Contribution(weight=weight, arrays={"w": np.full(1, weight, np.float32)}) for weight in (1, 3)]

    merged = FedLora().aggregate_groups(state, groups)

    assert merged["w"].tolist() == [(1 * 1 + 3 * 3) / 4]
