"""Rounds of a policy on a few made-up devices with made-up training, in milliseconds: no torch, no Ray, no files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from emulator.errors import PolicyError
from emulator.forms.base import AdapterForm
from emulator.policy.base import Policy
from emulator.policy.checked import CheckedPolicy
from emulator.policy.rounds import play_round, replay
from emulator.records import (
    Arrays,
    Assignment,
    ClusterView,
    Evaluation,
    Job,
    RoundPlan,
    RoundReport,
    TrainingDefaults,
    Update,
)
from emulator.running.checkpoints.codec import decoded, encoded
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec
from emulator.testing.small_world import made_up_devices, made_up_links, tiny_model, tiny_state
from emulator.testing.trouble import Trouble, TroubledDevices, no_trouble
from emulator.world.devices import Boards
from emulator.world.network.links import Links
from emulator.world.power_modes import PowerModes
from emulator.world.testbed import Testbed


@dataclass(frozen=True, kw_only=True, slots=True)
class PlayedRound:
    """A round as the engine played it.

    ``plan`` is what the policy returned; ``updates`` are those of the devices' first inner round, by device id.
    """

    view: ClusterView
    plan: RoundPlan
    updates: Sequence[Update]
    before: Arrays
    after: Arrays
    report: RoundReport


Reports = Callable[[Job, Update], Update]


class _RememberingPolicy(CheckedPolicy):
    """Keeps what the policy returned last, which the engine copies before it plays it."""

    def __init__(self, policy: Policy, form: AdapterForm) -> None:
        super().__init__(policy, form)
        self.proposed = RoundPlan(assignments={})

    def propose(self, view: ClusterView) -> RoundPlan:
        self.proposed = super().propose(view)
        return self.proposed


class SmallTestbed:
    """Drives a policy through rounds exactly as a run does. Use :func:`small_testbed` to make one.

    Attributes:
        policy: the policy itself.
        checked: the policy as a run calls it.
        state: the server state that the next round begins with.
    """

    def __init__(
        self,
        policy: Policy,
        testbed: Testbed,
        troubled: TroubledDevices,
        state: Arrays,
        seeds: Seeds,
        *,
        trains: bool,
        reports: Reports,
    ) -> None:
        self.policy = policy
        self.checked = _RememberingPolicy(policy, testbed.form)
        self.testbed = testbed
        self.state = state
        self._troubled = troubled
        self._seeds = seeds
        self._train = self.train if trains else None
        self._reports = reports
        self._n_rounds = 0
        self._states: list[Arrays] = []
        self._first_updates: Sequence[Update] = ()

    def view(self) -> ClusterView:
        """Open the next round; for tests that call the policy themselves."""
        self.testbed.open_round(self._next_round(), self._train)
        return self.testbed.view(self.state, self.policy.declares)

    def play_round(self) -> PlayedRound:
        """Plan, play, aggregate and observe the next round.

        Raises:
            PlanError: the policy planned something impossible.
            Exception: whatever the policy's own code raised, as it is.
        """
        try:
            played = play_round(self.testbed, self.checked, self._next_round(), self.state, self._train)
            self._states.append(played.before)
            self.state = played.after
            report = self.testbed.close_round(self._evaluation())
            self.checked.observe(report)
        except PolicyError as error:
            raise error.__cause__ or error from None
        return PlayedRound(
            view=played.view,
            plan=self.checked.proposed,
            updates=self._first_updates,
            before=played.before,
            after=played.after,
            report=report,
        )

    def gone_on(self, fresh: "SmallTestbed", plans: Sequence[RoundPlan]) -> "SmallTestbed":
        """``fresh``, a testbed of the same making with a fresh policy, where this one is after the rounds of ``plans``.

        All that passes from one to the other is what a checkpoint holds: the plans, the state, the policy's memory.
        """
        memory = encoded(self.checked.memory(), self.checked.name)
        stand_ins = replay(fresh.testbed, fresh.checked, plans)
        for stand_in, state in zip(stand_ins, self._states, strict=True):
            stand_in.update(state)
        fresh.checked.recall(decoded(memory, [type(self.policy).__module__.partition(".")[0]]))
        fresh.state, fresh._n_rounds = self.state, len(plans)
        return fresh

    def play(self, n_rounds: int) -> list[PlayedRound]:
        """Play so many rounds."""
        return [self.play_round() for _ in range(n_rounds)]

    def train(self, jobs: Sequence[Job]) -> list[Update]:
        """Made-up training: adds seeded noise to what a device would have trained."""
        updates = [self._reports(job, self._update(job)) for job in jobs]
        self._first_updates = self._first_updates or sorted(updates, key=lambda update: update.device_id)
        return updates

    def _update(self, job: Job) -> Update:
        form, model = self.testbed.form, self.testbed.model
        rng = self._seeds.rng("made_up_training", job.round_index, job.inner_round, job.device_id)
        trained = sent_back(form, form.project(job.state, job.assignment), job.assignment, model)
        noisy = {
            name: (array + 0.1 * rng.standard_normal(array.shape)).astype(np.float32) for name, array in trained.items()
        }
        return Update(
            device_id=job.device_id,
            round_index=job.round_index,
            inner_round=job.inner_round,
            assignment=job.assignment,
            payload=noisy,
            n_examples=_n_examples(job.device_id),
            metrics={"train_loss": 1.0 / (1 + job.round_index)},
        )

    def _next_round(self) -> int:
        self._first_updates = ()
        self._n_rounds += 1
        self._troubled.begin_round(self._n_rounds - 1, self.testbed.clock.now_s)
        return self._n_rounds - 1

    def _evaluation(self) -> Evaluation | None:
        if self._train is None:
            return None
        return Evaluation(accuracy=1 - 1 / (1 + self._n_rounds), loss=1 / self._n_rounds, n_examples=100)


def small_testbed(
    policy: Policy,
    *,
    n_devices: int = 6,
    n_layers: int = 4,
    seed: int = 0,
    trouble: Trouble = no_trouble,
    trains: bool = True,
    reports: Reports = lambda job, update: update,
) -> SmallTestbed:
    """A testbed of ``n_devices`` devices of three speeds for ``policy``, on a model of ``n_layers`` layers.

    Example::

        rounds = small_testbed(Mine(rank=4)).play(3)
        assert all(len(played.plan.assignments) == 3 for played in rounds)

    Args:
        policy: a fresh one; it is driven by this testbed alone.
        n_devices: how many devices; their ids start at 0.
        n_layers: layers of the model, which is trained and priced alike.
        seed: the run's seed.
        trouble: which devices are lost, by round.
        trains: whether devices send back arrays; without, the state is empty and reports have no metrics, as in a run
            with ``training.enabled = false``.
        reports: what becomes of a job's update, for policies whose task measures something while it trains.
    """
    seeds, model = Seeds(seed), tiny_model(n_layers)
    form = policy.form(model)
    troubled = TroubledDevices(made_up_devices(n_devices), trouble, seeds)
    testbed = Testbed(
        boards=Boards(
            devices=troubled, power_modes=PowerModes(np.ones(n_devices, np.int64), 0, seeds), jitter_fraction=0.05
        ),
        links=Links(made_up_links(n_devices), seeds),
        model=model,
        form=form,
        training=TrainingDefaults(n_steps=2, batch_size=4, learning_rate=1e-3),
        seeds=seeds,
        facts={
            "memory_bytes": [device.profile.usable_memory_bytes for device in made_up_devices(n_devices)],
            "allocator": [device.profile.allocator for device in made_up_devices(n_devices)],
            "flop_per_s": [
                device.profile.power_modes[0].effective_flop_per_s["fp32"] for device in made_up_devices(n_devices)
            ],
            "label_histogram": list(seeds.rng("made_up_labels").integers(1, 9, (n_devices, 3))),
            "n_examples": [_n_examples(device_id) for device_id in range(n_devices)],
        },
        availability=troubled.availability,
        drop_outs=troubled.drop_outs,
    )
    state = tiny_state(form, model, seeds) if trains else {}
    return SmallTestbed(policy, testbed, troubled, state, seeds, trains=trains, reports=reports)


def sent_back(form: AdapterForm, payload: Arrays, assignment: Assignment, model: ModelSpec) -> Arrays:
    """The arrays of ``payload`` that a device trains and sends back."""
    return {name: array for name, array in payload.items() if form.is_trained(name, assignment, model)}


def _n_examples(device_id: int) -> int:
    return 10 + 3 * device_id
