"""What every policy must keep to, as tests: a run is repeatable and fair only if its policy does."""

import copy
import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from emulator.errors import PolicyError
from emulator.forms.cut import CutForm
from emulator.policy.base import Policy
from emulator.policy.catalog import import_path
from emulator.policy.validation import check_combination
from emulator.records import Arrays, RoundPlan, Status, Update
from emulator.seeds import Seeds
from emulator.testing.compare import mutable_parts, same
from emulator.testing.errors import ConformanceError, require
from emulator.testing.guards import no_global_random_state, no_wall_clock
from emulator.testing.small_testbed import SmallTestbed, sent_back, small_testbed
from emulator.testing.small_world import tiny_state
from emulator.testing.trouble import Trouble, no_trouble
from emulator.world.devices import DEVICE_FACTS


class PolicyConformance(ABC):
    """Derive from it, give :meth:`policy`, and let pytest or any other runner call the ``test_`` methods.

    Example::

        class TestMine(PolicyConformance):
            def policy(self):
                return Mine(rank=4)
    """

    n_devices: ClassVar[int] = 6
    n_layers: ClassVar[int] = 4
    n_rounds: ClassVar[int] = 5

    @abstractmethod
    def policy(self) -> Policy:
        """A fresh policy; called several times in a test, so nothing may be shared between two of them."""

    def emulated(self, trouble: Trouble = no_trouble, *, trains: bool = True) -> SmallTestbed:
        """What a fresh policy is tried on."""
        return small_testbed(
            self.policy(), n_devices=self.n_devices, n_layers=self.n_layers, trouble=trouble, trains=trains
        )

    @classmethod
    def checks(cls) -> list[str]:
        """The names of the ``test_`` methods."""
        return [name for name in dir(cls) if name.startswith("test_")]

    def test_cohort_is_available(self) -> None:
        small = self.emulated(self._half(Status.UNAVAILABLE))
        for _ in range(2):  # nobody is away in the first round
            view = small.view()
            strangers = sorted(set(small.policy.plan(view).assignments) - set(view.available))
            require(not strangers, f"{self._round(view.round_index)}: planned for unavailable devices: {strangers}")
            small.testbed.close_round()

    def test_plans_are_valid(self) -> None:
        small = self.emulated()
        for _ in range(self.n_rounds):
            small.play_round()

    def test_plans_are_frozen(self) -> None:
        small = self.emulated()
        plan = small.policy.plan(small.view())
        records = [*plan.assignments.values(), *plan.groups]
        parts = dict.fromkeys(part for record in records for part in mutable_parts(record))
        require(not parts, f"its assignments or groups can be changed: {', '.join(parts)}")
        small = self.emulated()
        plans, copies = [], []
        for _ in range(self.n_rounds):
            plans.append(small.play_round().plan)
            copies.append(copy.deepcopy(plans[-1]))
        require(same(plans, copies), "it changes the plan of an earlier round")

    def test_form_task_and_protocol_go_together(self) -> None:
        small = self.emulated()
        try:
            check_combination(small.testbed.form, small.policy.task, small.policy.protocol)
        except ValueError as error:
            raise ConformanceError(str(error)) from None

    def test_plans_and_form_are_picklable(self) -> None:
        small = self.emulated()
        for what, given in (("form", small.testbed.form), ("plan", small.play_round().plan)):
            require(same(pickle.loads(pickle.dumps(given)), given), f"its {what} changes when pickled")

    def test_same_seed_gives_the_same_plans(self) -> None:
        for trains in (True, False):
            first, second = self.emulated(trains=trains), self.emulated(trains=trains)
            for round_index in range(self.n_rounds):
                one, other = first.play_round(), second.play_round()
                require(
                    same(one.plan, other.plan), f"{self._round(round_index)}: two runs with one seed plan differently"
                )

    def test_goes_on_after_any_round_as_if_nothing_had_happened(self) -> None:
        played = self.emulated().play(self.n_rounds)
        before, plans = self.emulated(), list[RoundPlan]()
        for n_rounds in range(1, self.n_rounds):
            plans.append(before.play_round().plan)
            after = before.gone_on(self.emulated(), plans)
            for expected in played[n_rounds:]:
                found = after.play_round()
                require(
                    same(found.plan, expected.plan) and _same_arrays(found.after, expected.after),
                    f"{self._round(expected.view.round_index)}: a run that goes on after {n_rounds} rounds decides or "
                    "aggregates otherwise; memory() must give all that plan() and aggregate() depend on",
                )

    def test_copes_without_training(self) -> None:
        self.emulated(trains=False).play(self.n_rounds)

    def test_copes_with_unavailable_devices(self) -> None:
        self.emulated(self._half(Status.UNAVAILABLE)).play(self.n_rounds)

    def test_copes_with_dropped_devices(self) -> None:
        self.emulated(self._half(Status.DROPPED)).play(self.n_rounds)

    def test_copes_with_devices_out_of_memory(self) -> None:
        self.emulated(self._half(Status.OUT_OF_MEMORY)).play(self.n_rounds)

    def test_aggregation_does_not_depend_on_the_order_of_arrival(self) -> None:
        small = self.emulated()
        played = small.play_round()
        arrived = sorted(copy.deepcopy(list(reversed(played.updates))), key=lambda update: update.device_id)
        first, second = copy.deepcopy(small.policy), copy.deepcopy(small.policy)
        one = first.aggregate(small.testbed.form, played.before, played.updates)
        other = second.aggregate(small.testbed.form, copy.deepcopy(played.before), arrived)
        require(_same_arrays(one, other), "aggregate() gives different bytes for the same updates")

    def test_aggregation_gives_a_server_state(self) -> None:
        small = self.emulated()
        for _ in range(self.n_rounds):
            small.play_round()  # the engine refuses arrays that are missing, misshapen or not finite

    def test_aggregation_leaves_its_inputs_alone(self) -> None:
        small = self.emulated()
        played = small.play_round()
        state, updates = copy.deepcopy(played.before), copy.deepcopy(list(played.updates))
        small.policy.aggregate(small.testbed.form, state, updates)
        require(_same_arrays(state, played.before), "aggregate() modifies the state")
        require(same(updates, list(played.updates)), "aggregate() modifies the updates")

    def test_reads_no_wall_clock(self) -> None:
        small = self.emulated()
        classes = [*type(small.policy).__mro__, *type(small.testbed.form).__mro__, type(small.policy.protocol)]
        with no_wall_clock(classes):
            small.play(self.n_rounds)

    def test_uses_no_global_random_state(self) -> None:
        small = self.emulated()
        with no_global_random_state():
            small.play(self.n_rounds)

    def test_leaves_the_state_it_sees_alone(self) -> None:
        small = self.emulated()
        for round_index in range(self.n_rounds):
            view = small.view()
            before = copy.deepcopy(view.state)
            small.policy.plan(view)
            require(_same_arrays(view.state, before), f"{self._round(round_index)}: plan() modifies view.state")
            small.policy.observe(small.testbed.close_round())

    def test_projecting_then_embedding_gives_the_state_back(self) -> None:
        small = self.emulated()
        form, model = small.testbed.form, small.testbed.model
        state = tiny_state(form, model, Seeds(1))
        for device_id, assignment in small.play_round().plan.assignments.items():
            update = Update(
                device_id=device_id,
                assignment=assignment,
                payload=form.project(state, assignment),
                n_examples=1,
                metrics={},
            )
            embedded = form.embed(update, state)
            for name, array in embedded.arrays.items():
                where = f"device {device_id}, {name}"
                require(array.shape == state[name].shape, f"{where}: embed() gives the shape {array.shape}")
                held = embedded.support.get(name)
                differs = array != state[name] if held is None else (array != state[name]) & held
                require(not differs.any(), f"{where}: what project() takes, embed() puts elsewhere")

    def test_declared_bytes_are_those_of_the_arrays(self) -> None:
        small = self.emulated()
        form, model = small.testbed.form, small.testbed.model
        for device_id, assignment in small.play_round().plan.assignments.items():
            payload = form.project(small.state, assignment)
            returned = sent_back(form, payload, assignment, model)
            for direction, declared, extra, arrays in (
                (
                    "download",
                    form.download_bytes(assignment, model),
                    form.extra_download_bytes(assignment, model),
                    payload,
                ),
                ("upload", form.upload_bytes(assignment, model), form.extra_upload_bytes(assignment, model), returned),
            ):
                actual = sum(array.nbytes for array in arrays.values()) + extra
                problem = f"device {device_id}: {direction}_bytes are {declared}, the arrays have {actual}"
                require(declared == actual, problem)

    def test_what_can_be_compressed_are_the_arrays_that_travel(self) -> None:
        small = self.emulated()
        form, model = small.testbed.form, small.testbed.model
        if isinstance(form, CutForm):
            return  # which exchanges something at every step, and is never compressed
        for device_id, assignment in small.play_round().plan.assignments.items():
            payload = form.project(small.state, assignment)
            received = {name: array for name, array in payload.items() if form.is_received(name)}
            returned = sent_back(form, payload, assignment, model)
            down = form.download_bytes(assignment, model) - form.plain_download_bytes(assignment, model)
            up = form.upload_bytes(assignment, model) - form.plain_upload_bytes(assignment, model)
            for direction, declared, arrays in (("download", down, received), ("upload", up, returned)):
                actual = sum(array.nbytes for array in arrays.values())
                problem = f"device {device_id}: of {direction}_bytes {declared} are not plain, the arrays have {actual}"
                require(declared == actual, problem)

    def test_reads_only_what_it_declares(self) -> None:
        small = self.emulated()
        policy = small.policy
        unknown = sorted(policy.declares - set(DEVICE_FACTS))
        require(not unknown, f"it declares {unknown}; the facts are {', '.join(DEVICE_FACTS)}")
        for _ in range(self.n_rounds):
            view = small.view()
            try:
                small.checked.plan(view)
            except PolicyError as error:
                if not isinstance(error.__cause__, KeyError):
                    raise
                declared = ", ".join(sorted(policy.declares)) or "nothing"
                message = f"plan() looks up {error.__cause__}, but the policy declares {declared}"
                raise ConformanceError(message) from error.__cause__
            small.checked.observe(small.testbed.close_round())

    def _half(self, status: Status) -> Trouble:
        """Nobody, then the even devices, then the odd ones, then all, and so on."""
        everybody = range(self.n_devices)
        turns = [(), everybody[::2], everybody[1::2], everybody]

        def trouble(round_index: int) -> Mapping[int, Status]:
            return dict.fromkeys(turns[round_index % len(turns)], status)

        return trouble

    def _round(self, round_index: int) -> str:
        return f"{import_path(type(self.policy()))}, round {round_index}"


def _same_arrays(left: Arrays, right: Arrays) -> bool:
    return same(dict(left), dict(right))
