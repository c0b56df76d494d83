"""Chained rounds: a group takes the sum of its members' times, and each starts from what the one before gave."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from emulator.errors import PlanError
from emulator.policy import Group, LoraForm, Policy, lora_plan
from emulator.protocols.chained import ChainedRounds
from emulator.records import Arrays, ClusterView, Job, RoundPlan, Status, Update
from emulator.shapes.spec import ModelSpec
from emulator.testing import small_testbed

NAME = "layers.0.query.lora_B"


@dataclass(kw_only=True)
class Chains(Policy):
    """Groups as given, in their order."""

    groups: tuple[tuple[int, ...], ...]
    inner_rounds: int = 1
    n_wanted: int | None = None

    protocol = ChainedRounds()

    def form(self, model: ModelSpec) -> LoraForm:
        return LoraForm(ranks=(2,) * model.n_layers)

    def plan(self, view: ClusterView) -> RoundPlan:
        plan = lora_plan(view, (2,) * view.model.n_layers, dict.fromkeys(view.available, view.model.n_layers))
        groups = [tuple(device for device in group if device in view.available) for group in self.groups]
        made = tuple(Group(members=group, inner_rounds=self.inner_rounds) for group in groups)
        return replace(plan, groups=made, n_wanted=self.n_wanted)


def adding(amounts: dict[int, float], starts: dict[int, float]):  # type: ignore[no-untyped-def]
    """Made-up training that adds a device's amount to what it started from, and remembers the start."""

    def reports(job: Job, update: Update) -> Update:
        starts[job.device_id] = float(job.state[NAME][0, 0])
        payload: Arrays = {name: job.state[name] + np.float32(amounts[job.device_id]) for name in update.payload}
        return replace(update, payload=payload)

    return reports


def test_the_model_goes_from_member_to_member_and_groups_are_averaged_by_examples() -> None:
    starts: dict[int, float] = {}
    amounts = {0: 1.0, 1: 10.0, 2: 100.0, 3: 1000.0}
    small = small_testbed(Chains(groups=((2, 0), (3, 1))), n_devices=4, reports=adding(amounts, starts))
    played = small.play_round()

    before = float(played.before[NAME][0, 0])
    assert starts == pytest.approx({2: before, 0: before + 100, 3: before, 1: before + 1000}, rel=1e-5)
    examples = {device: seen.n_examples for device, seen in played.report.devices.items()}
    first, second = examples[0] + examples[2], examples[1] + examples[3]
    mean = (first * 101 + second * 1010) / (first + second)
    assert float(played.after[NAME][0, 0]) == pytest.approx(before + mean, rel=1e-5)


def test_a_round_lasts_as_long_as_the_longest_chain() -> None:
    groups = ((0, 3), (1, 2, 4), (5,))
    report = small_testbed(Chains(groups=groups), n_devices=6).play_round().report

    chains = [
        sum(seen.download_s + seen.compute_s + seen.upload_s for seen in (report.devices[device] for device in group))
        for group in groups
    ]
    assert report.end_s - report.start_s == pytest.approx(max(chains))


def test_groups_of_one_are_the_flat_round_of_fedavg() -> None:
    class Flat(Chains):
        protocol = Policy.protocol

    chained, flat = (
        small_testbed(made(groups=tuple((device,) for device in range(4))), n_devices=4).play_round()
        for made in (Chains, Flat)
    )
    assert all(np.array_equal(chained.after[name], flat.after[name]) for name in flat.after)
    assert chained.report.end_s == flat.report.end_s


def test_who_follows_a_lost_device_goes_on_from_its_predecessor() -> None:
    starts: dict[int, float] = {}
    amounts = {0: 1.0, 1: 10.0, 2: 100.0}
    small = small_testbed(
        Chains(groups=((0, 1, 2),)),
        n_devices=3,
        trouble=lambda round_index: {1: Status.DROPPED},
        reports=adding(amounts, starts),
    )
    played = small.play_round()
    before = float(played.before[NAME][0, 0])

    assert starts == pytest.approx({0: before, 2: before + 1}, rel=1e-5)
    assert float(played.after[NAME][0, 0]) == pytest.approx(before + 101, rel=1e-5)


@pytest.mark.parametrize("change", [{"inner_rounds": 2}, {"groups": (), "n_wanted": 2}])
def test_what_chains_do_not_have_is_refused(change: dict[str, object]) -> None:
    policy = Chains(**{"groups": ((0, 1), (2, 3)), **change})  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="round 0: ChainedRounds has"):
        small_testbed(policy, n_devices=4).play_round()
