"""FedAvg: the mean of whole weights, by examples."""

import numpy as np
import pytest

from emulator.forms.full import FullForm
from emulator.policy.catalog import build_policy
from emulator.testing import small_testbed, tiny_model
from policies.fedavg import FedAvg


@pytest.mark.parametrize("settings", [{}, {"embeddings": True}, {"depth": 1}])
def test_every_weight_is_the_mean_weighted_by_examples(settings: dict[str, object]) -> None:
    played = small_testbed(build_policy("fedavg", settings), n_devices=3, n_layers=2).play_round()
    total = sum(update.n_examples for update in played.updates)

    assert set(played.updates[0].payload) == set(played.before)
    for name in played.before:
        expected = sum(update.n_examples / total * update.payload[name] for update in played.updates)
        assert np.allclose(played.after[name], expected, atol=1e-6)


def test_embeddings_are_trained_on_wish() -> None:
    assert FedAvg().form(tiny_model(2)) == FullForm()
    assert FedAvg(embeddings=True).form(tiny_model(2)) == FullForm(trains_embeddings=True)


def test_all_devices_train_the_same_depth() -> None:
    plan = small_testbed(build_policy("fedavg", {"depth": 2}), n_devices=3, n_layers=4).play_round().plan
    assert {assignment.backward_layers for assignment in plan.assignments.values()} == {2}
