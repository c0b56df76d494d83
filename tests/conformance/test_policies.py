"""Every policy that ships with jetbed conforms, and the conformance suite catches those that do not."""

import numpy as np
import pytest

from emulator.errors import AggregationError, PlanError
from emulator.forms.kept_units import KeptUnits
from emulator.forms.pruned_lora import pruned_lora_assignment
from emulator.policy import Policy
from emulator.policy.catalog import build_policy, policy_names
from emulator.records import TrainingDefaults, Update
from emulator.seeds import Seeds
from emulator.testing import ConformanceError, PolicyConformance, tiny_model
from policies.fedspine import FedSpine
from policies.legend import Legend
from tests.conformance import broken_policies as broken


class Suite(PolicyConformance):
    """The suite for a policy that is given; not collected by itself, as its name does not begin with Test."""

    def __init__(self, given: type[Policy] | str) -> None:
        self._given = given

    def policy(self) -> Policy:
        return build_policy(self._given, {}) if isinstance(self._given, str) else self._given()


@pytest.mark.parametrize("check", PolicyConformance.checks())
@pytest.mark.parametrize("name", policy_names())
def test_a_shipped_policy_conforms(name: str, check: str) -> None:
    getattr(Suite(name), check)()


class TestLegendThatSendsTunedLayersOnly(PolicyConformance):
    def policy(self) -> Policy:
        return Legend(downlink="tuned", min_depth=2)


class TestLegendOnTwelveLayers(PolicyConformance):
    n_layers = 12
    n_devices = 9

    def policy(self) -> Policy:
        return Legend(waiting_fraction=0.05)


class TestFedSpineThatHasPruned(PolicyConformance):
    """Devices have been scored before the first round, so that the first plan prunes already."""

    def policy(self) -> Policy:
        policy = FedSpine(first_round=0, schedule="one_shot", target_sparsity=0.4)
        model = tiny_model(self.n_layers)
        whole = KeptUnits.whole({}, model)
        training = TrainingDefaults(n_steps=1, batch_size=1, learning_rate=0.1)
        rng = Seeds(0).rng("scores")
        scored = [
            Update(
                device_id=device,
                assignment=pruned_lora_assignment(device, training, model, policy.rank, whole),
                payload={},
                n_examples=1,
                metrics={},
                reported={
                    name: rng.random(array.shape).astype(np.float32) for name, array in whole.equal_scores().items()
                },
            )
            for device in range(self.n_devices)
        ]
        policy.aggregate(policy.form(model), {}, scored)
        return policy


@pytest.mark.parametrize("check", PolicyConformance.checks())
def test_a_policy_that_breaks_nothing_passes(check: str) -> None:
    getattr(Suite(broken.Plain), check)()


CAUGHT: list[tuple[str, type[Policy], type[Exception], str]] = [
    ("test_cohort_is_available", broken.PlansForEverybody, ConformanceError, r"round 1: .* \[0, 2, 4\]"),
    ("test_plans_are_valid", broken.TooDeep, PlanError, "TooDeep, round 0, device 0: depth must be between"),
    ("test_form_task_and_protocol_go_together", broken.CutsInWholeRounds, ConformanceError, "CutLoraForm cuts them"),
    ("test_form_task_and_protocol_go_together", broken.DoesNotCut, ConformanceError, "LoraForm does not"),
    ("test_form_task_and_protocol_go_together", broken.TrainsCopies, ConformanceError, "needs the task .*train_merged"),
    ("test_form_task_and_protocol_go_together", broken.HasNoTask, ConformanceError, "got 'emulator.learning.tasks.loc"),
    ("test_plans_are_frozen", broken.MutableRanks, ConformanceError, "ranks: a list"),
    ("test_plans_are_frozen", broken.NotFrozen, ConformanceError, "OpenAssignment is not a frozen"),
    ("test_plans_are_frozen", broken.OnePlanForever, ConformanceError, "plan of an earlier round"),
    ("test_plans_and_form_are_picklable", broken.LocalForm, Exception, "Hidden"),
    ("test_same_seed_gives_the_same_plans", broken.Unseeded, ConformanceError, "round 0: two runs"),
    ("test_same_seed_gives_the_same_plans", broken.SharedBetweenRuns, ConformanceError, "round 0: two runs"),
    (
        "test_goes_on_after_any_round_as_if_nothing_had_happened",
        broken.KeepsWhatItLearned,
        ConformanceError,
        "round 1: a run that goes on after 1 rounds decides or aggregates otherwise",
    ),
    ("test_copes_without_training", broken.NeedsEvaluation, AssertionError, "no evaluation"),
    ("test_copes_with_unavailable_devices", broken.KeepsItsFirstCohort, PlanError, "device 0: is not available"),
    ("test_copes_with_dropped_devices", broken.NeedsUploads, ZeroDivisionError, "division by zero"),
    ("test_copes_with_devices_out_of_memory", broken.NeedsComputation, ZeroDivisionError, "division by zero"),
    (
        "test_aggregation_does_not_depend_on_the_order_of_arrival",
        broken.CountsAggregations,
        ConformanceError,
        "different bytes",
    ),
    ("test_aggregation_gives_a_server_state", broken.ForgetsArrays, AggregationError, "aggregation dropped"),
    ("test_aggregation_gives_a_server_state", broken.DividesByNothing, AggregationError, "not finite"),
    ("test_aggregation_leaves_its_inputs_alone", broken.AggregatesInPlace, ConformanceError, "modifies the state"),
    ("test_aggregation_leaves_its_inputs_alone", broken.ScalesUpdatesInPlace, ConformanceError, "modifies the updates"),
    ("test_reads_no_wall_clock", broken.TimesItself, ConformanceError, "time.monotonic"),
    ("test_reads_no_wall_clock", broken.TimesItselfByAnImportedName, ConformanceError, "time.perf_counter"),
    ("test_reads_no_wall_clock", broken.LooksAtTheCalendar, ConformanceError, "datetime.now"),
    ("test_uses_no_global_random_state", broken.UsesModuleRandom, ConformanceError, "module random"),
    ("test_uses_no_global_random_state", broken.SeedsNumpyGlobally, ConformanceError, "numpy.random"),
    ("test_leaves_the_state_it_sees_alone", broken.WritesToTheState, ConformanceError, "modifies view.state"),
    (
        "test_projecting_then_embedding_gives_the_state_back",
        broken.TakesTheLastRows,
        ConformanceError,
        "device 0, layers.0.query.lora_A",
    ),
    (
        "test_declared_bytes_are_those_of_the_arrays",
        broken.CountsNumbersInsteadOfBytes,
        ConformanceError,
        "device 0: upload_bytes are",
    ),
    (
        "test_what_can_be_compressed_are_the_arrays_that_travel",
        broken.CountsWhatDevicesMake,
        ConformanceError,
        "device 0: of download_bytes .* are not plain",
    ),
    ("test_reads_only_what_it_declares", broken.LooksUpMemory, ConformanceError, "declares nothing"),
    ("test_reads_only_what_it_declares", broken.DeclaresTheProfile, ConformanceError, "profile"),
]


@pytest.mark.parametrize(("check", "policy", "error", "message"), CAUGHT, ids=[case[1].__name__ for case in CAUGHT])
def test_a_broken_policy_is_caught(check: str, policy: type[Policy], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        getattr(Suite(policy), check)()


def test_every_check_is_proven_by_a_broken_policy() -> None:
    assert {check for check, *_ in CAUGHT} == set(PolicyConformance.checks())
