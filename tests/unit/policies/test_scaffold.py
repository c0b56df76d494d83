"""SCAFFOLD: controls travel both ways, their mean is the server's, and checkpoints have them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from emulator.algorithms.control import CONTROL, Controls
from emulator.forms.lora import LoraForm
from emulator.records import Arrays, Job, Update
from emulator.testing import small_testbed
from policies.fedlora import FedLora
from policies.scaffold import Scaffold


def with_control(job: Job, update: Update) -> Update:
    """A device reports as its control what it has changed, and so a number of its own in each round."""
    changes = {name: update.payload[name] - job.state[name] for name in update.payload}
    return replace(update, reported={f"{CONTROL}{name}": change for name, change in changes.items()})


def controls_of(policy: Any) -> Controls:
    assert isinstance(policy._controls, Controls)
    return policy._controls


def test_twice_the_bytes_of_fedlora_travel_both_ways() -> None:
    small = small_testbed(Scaffold(rank=4, depth=2), n_devices=2, n_layers=3)
    form, model = small.testbed.form, small.testbed.model
    (assignment, _) = small.play_round().plan.assignments.values()
    plain = LoraForm(ranks=(0, 4, 4))
    for name in ("download_bytes", "upload_bytes"):
        assert getattr(form, name)(assignment, model) == 2 * getattr(plain, name)(assignment, model)


def test_the_servers_control_is_the_mean_over_all_devices() -> None:
    small = small_testbed(Scaffold(rank=2), n_devices=3, n_layers=2, reports=with_control)
    for played in small.play(3):
        controls = controls_of(small.policy)
        for name in played.before:
            own = [controls.own[device][name].astype(np.float64) for device in range(3)]
            assert controls.server[name] == pytest.approx(np.mean(own, axis=0), abs=1e-6)


def test_devices_carry_the_difference_to_the_server() -> None:
    carried: list[tuple[int, Arrays]] = []

    def reports(job: Job, update: Update) -> Update:
        carried.append((job.device_id, job.carried))
        return with_control(job, update)

    small = small_testbed(Scaffold(rank=2), n_devices=2, n_layers=2, reports=reports)
    small.play_round()
    assert carried == [(0, {}), (1, {})]
    expected = {device: small.policy.carried_by(device) for device in (0, 1)}
    small.play_round()
    for device, found in carried[2:]:
        assert set(found) == set(small.state)
        assert all(np.array_equal(found[name], expected[device][name]) for name in found)
        assert all(found[name].any() for name in found)


def test_devices_count_alike_whatever_they_hold() -> None:
    played = small_testbed(Scaffold(rank=2), n_devices=3, n_layers=2).play_round()
    assert len({update.n_examples for update in played.updates}) == 3
    for name, merged in played.after.items():
        mean = np.mean([update.payload[name] for update in played.updates], axis=0)
        assert merged == pytest.approx(mean, abs=1e-6)


def test_it_plans_as_fedlora_does() -> None:
    ours, theirs = (small_testbed(policy, n_devices=2).play_round().plan for policy in (Scaffold(), FedLora()))
    assert ours == theirs


def test_a_run_that_goes_on_carries_what_it_had() -> None:
    def fresh() -> Any:
        return small_testbed(Scaffold(rank=2), n_devices=3, n_layers=2, reports=with_control)

    whole = fresh()
    expected = whole.play(4)
    before = fresh()
    after = before.gone_on(fresh(), [played.plan for played in before.play(2)])
    for played in expected[2:]:
        found = after.play_round()
        assert all(np.array_equal(found.after[name], array) for name, array in played.after.items())
    ours, theirs = controls_of(after.policy), controls_of(whole.policy)
    assert all(np.array_equal(ours.server[name], array) for name, array in theirs.server.items())
