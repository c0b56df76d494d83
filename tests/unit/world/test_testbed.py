"""The testbed's verbs in closed form: seconds, bytes, joules, waiting, losses, and what a policy may see."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_profiles.records import PowerLaw, Thermal
from emulator.forms.lora import LoraForm, lora_assignment
from emulator.policy.catalog import build_policy
from emulator.records import ClusterView, Evaluation, Job, Status, TrainingDefaults, Update, Work
from emulator.seeds import Seeds
from emulator.testing import exact_testbed, small_testbed, tiny_model
from emulator.testing.exact_testbed import COMPUTE_W, IDLE_W, TRANSFER_W
from emulator.testing.small_world import made_up_devices
from emulator.world.clock import Process
from emulator.world.devices import DeviceLost
from emulator.world.network.shared_network import SharedCapacity
from emulator.world.open_round import Train
from emulator.world.power_modes import PowerModes
from emulator.world.price.memory import peak_memory
from emulator.world.price.step_time import price

if TYPE_CHECKING:  # pytest would try to collect a class whose name begins with Test
    from emulator.world.testbed import Testbed

MODEL = tiny_model()
FORM = LoraForm(ranks=(2,) * MODEL.n_layers)
ASSIGNMENT = lora_assignment(0, TrainingDefaults(n_steps=3, batch_size=8, learning_rate=0.1), FORM.ranks, 2)
WORK = FORM.work(ASSIGNMENT, MODEL)  # 3 steps


def opened(n_devices: int = 2, train: Train | None = None, **settings: Any) -> "Testbed":
    """A testbed in its first round: 2 s per step, 100 bytes/s down, 50 bytes/s up."""
    testbed = exact_testbed(
        FORM,
        MODEL,
        step_s=[2.0] * n_devices,
        download_bytes_per_s=[100.0] * n_devices,
        upload_bytes_per_s=[50.0] * n_devices,
        **settings,
    )
    testbed.open_round(0, train)
    return testbed


def run(testbed: "Testbed", device_id: int = 0, down: int = 200, up: int = 25, work: Work = WORK) -> Process[float]:
    """Download, compute, upload; gives the time at which it has ended, or was lost."""
    try:
        yield testbed.download(device_id, down)
        yield testbed.compute(device_id, work)
        yield testbed.upload(device_id, up)
    except DeviceLost:
        pass
    return testbed.clock.now_s


def test_a_transfer_takes_the_latency_and_its_bytes_over_the_rate() -> None:
    testbed = opened(latency_s=0.25)

    assert testbed.clock.run(run(testbed)) == (0.25 + 200 / 100) + 3 * 2.0 + (0.25 + 25 / 50)


def test_computing_takes_the_steps_at_the_device_s_speed() -> None:
    testbed = opened()

    testbed.clock.run(run(testbed))

    seen = testbed.close_round().devices[0]
    assert (seen.forward_s, seen.backward_s, seen.compute_s, seen.n_steps, seen.batch_size) == (6.0, 0.0, 6.0, 3, 8)


def test_computing_costs_what_the_cost_model_says_times_the_jitter() -> None:
    small = small_testbed(build_policy("fedlora", {"rank": 2}), n_devices=3)
    [played] = small.play(1)

    for device, seen in zip(made_up_devices(3), played.report.devices.values(), strict=True):
        work = small.testbed.form.work(played.plan.assignments[seen.device_id], MODEL)
        cost = price(MODEL, work, device.modes[0], "fp32")
        factor = seen.forward_s / cost.forward_s
        assert seen.backward_s == pytest.approx(cost.backward_s * factor, rel=1e-12)
        # Jitter is log-normal with variation 0.05: six deviations are a factor of exp(0.3).
        assert factor != 1.0
        assert np.exp(-0.3) < factor < np.exp(0.3)


def test_a_round_s_jitter_is_drawn_anew_for_every_piece_of_work_and_the_same_in_every_run() -> None:
    def compute_s() -> list[float]:
        rounds = small_testbed(build_policy("fedlora", {}), n_devices=2).play(3)
        return [played.report.devices[0].compute_s for played in rounds]

    assert len(set(compute_s())) == 3
    assert compute_s() == compute_s()


def test_energy_is_power_times_time_of_each_activity() -> None:
    testbed = opened()
    under_way = testbed.round
    testbed.clock.run(run(testbed))
    testbed.close_round()

    # Device 0: 2 s download, 6 s computation, 0.5 s upload. Device 1 idles through all 8.5 s.
    busy_j = TRANSFER_W * (2 + 0.5) + COMPUTE_W * 6
    assert [ledger.energy_j for ledger in under_way.ledgers] == [busy_j, IDLE_W * 8.5]
    assert sum(under_way.activities.energy_j) == busy_j + IDLE_W * 8.5


def test_bytes_are_counted_per_direction_and_activity() -> None:
    testbed = opened()
    under_way = testbed.round
    testbed.clock.run(run(testbed))

    seen = testbed.close_round().devices[0]
    assert (seen.download_bytes, seen.upload_bytes) == (200, 25)
    by_kind = dict(zip(under_way.activities.kind, under_way.activities.n_bytes, strict=True))
    assert by_kind == {"download": 200, "compute": 0, "upload": 25, "wait": 0}


def test_devices_that_share_capacity_are_charged_for_the_time_that_their_transfers_really_took() -> None:
    # An access point of 100 bytes/s. Both download 200 bytes at 50 bytes/s each, compute 3 steps of 2 s, and upload 25
    # bytes at their links' 50 bytes/s each: all fits.
    shared = SharedCapacity(np.array([0, 0]), (100.0,), (float("inf"), float("inf")))
    testbed = opened(shared=shared)
    under_way = testbed.round

    assert testbed.clock.run(both(testbed)) == [10.5, 10.5]

    seen = testbed.close_round().devices[1]
    assert (seen.download_s, seen.compute_s, seen.upload_s, seen.waiting_s) == (4.0, 6.0, 0.5, 0.0)
    assert (seen.download_bytes, seen.upload_bytes) == (200, 25)
    log = under_way.activities
    spans = [
        (kind, start_s, end_s)
        for device_id, kind, start_s, end_s in zip(log.device_id, log.kind, log.start_s, log.end_s, strict=True)
        if device_id == 1
    ]
    assert spans == [("download", 0.0, 4.0), ("compute", 4.0, 10.0), ("upload", 10.0, 10.5)]
    assert under_way.ledgers[1].energy_j == TRANSFER_W * (4 + 0.5) + COMPUTE_W * 6


def test_a_device_without_an_assignment_is_idle_and_waits_the_whole_round() -> None:
    testbed = opened()
    testbed.clock.run(run(testbed))

    seen = testbed.close_round().devices[1]
    assert (seen.status, seen.waiting_s, seen.n_steps, seen.download_bytes) == (Status.IDLE, 8.5, 0, 0)


def test_work_beyond_the_usable_memory_is_an_event_and_takes_no_time() -> None:
    needed = peak_memory(MODEL, WORK, "fp32").total_bytes
    testbed = opened(usable_memory_bytes=[needed - 1, needed])
    under_way = testbed.round

    ends = testbed.clock.run(both(testbed))

    seen = testbed.close_round().devices
    assert ends == [2.0, 8.5]
    assert [seen[0].status, seen[1].status] == [Status.OUT_OF_MEMORY, Status.OK]
    assert (seen[0].compute_s, seen[0].upload_s, seen[0].waiting_s) == (0.0, 0.0, 8.5 - 2.0)
    assert [ledger.peak_memory_bytes for ledger in under_way.ledgers] == [needed, needed]


def both(testbed: "Testbed") -> Process[list[float]]:
    ends: list[float] = yield testbed.all_of([testbed.process(run(testbed, device_id)) for device_id in (0, 1)])
    return ends


def test_waiting_between_activities_counts_as_waiting() -> None:
    testbed = opened()
    under_way = testbed.round

    def late() -> Process[None]:
        yield testbed.download(0, 100)  # 1 s
        yield testbed.clock.timeout(5.0)
        yield testbed.upload(0, 50)  # 1 s

    testbed.clock.run(late())

    assert testbed.close_round().devices[0].waiting_s == 5.0
    assert under_way.activities.kind[:3] == ["download", "wait", "upload"]
    assert (under_way.activities.start_s[1], under_way.activities.end_s[1]) == (1.0, 6.0)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 40), st.integers(0, 10_000)), min_size=1, max_size=6))
def test_the_times_of_every_device_add_up_to_the_round(assignments: list[tuple[int, int, int]]) -> None:
    testbed = opened(n_devices=len(assignments) + 1)

    def cohort() -> Process[Any]:
        for device_id, (down, n_steps, up) in enumerate(assignments):
            process = run(testbed, device_id, down, up, replace(WORK, n_steps=n_steps))
            events.append(testbed.process(process))
        return (yield testbed.all_of(events))

    events: list[Any] = []
    testbed.clock.run(cohort())

    report = testbed.close_round()
    for seen in report.devices.values():
        total_s = seen.download_s + seen.compute_s + seen.upload_s + seen.waiting_s
        assert total_s == pytest.approx(report.end_s - report.start_s, abs=1e-9)


def test_a_round_begins_where_the_last_one_ended() -> None:
    first, second = small_testbed(build_policy("fedlora", {}), n_devices=2).play(2)

    assert (first.report.start_s, second.report.start_s, second.view.now_s) == (
        0.0,
        first.report.end_s,
        first.report.end_s,
    )
    assert second.report.end_s > second.report.start_s


FACTS: dict[str, list[Any]] = {"memory_bytes": [10, 20], "label_histogram": [[1], [2]], "n_examples": [5, 6]}


@pytest.mark.parametrize("declares", [frozenset({"n_examples"}), frozenset({"memory_bytes", "label_histogram"})])
def test_a_view_shows_what_is_declared_and_nothing_else(declares: frozenset[str]) -> None:
    view = opened(facts=FACTS).view({}, declares)

    expected = {device_id: {fact: FACTS[fact][device_id] for fact in declares} for device_id in (0, 1)}
    assert view.declared == expected


def test_a_policy_that_declares_nothing_is_told_nothing() -> None:
    assert opened(facts=FACTS).view({}, frozenset()).declared == {}


def test_a_view_has_no_way_to_the_devices_or_their_links() -> None:
    names = set(ClusterView.__dataclass_fields__)

    assert names == {
        *("round_index", "now_s", "model", "state", "training"),
        *("n_devices", "available", "declared", "rng"),
    }


def test_the_random_stream_of_a_view_belongs_to_its_round() -> None:
    testbed, draws = opened(), []
    for round_index in (1, 2):
        testbed.close_round()
        testbed.open_round(round_index)
        draws.append(testbed.view({}, frozenset()).rng.random())

    assert draws[0] != draws[1]
    assert testbed.view({}, frozenset()).rng.random() == draws[1]


def test_looking_at_a_round_changes_nothing_of_it() -> None:
    testbed = opened()
    testbed.clock.run(run(testbed))
    before = copy.deepcopy((testbed.clock.now_s, testbed.round.ledgers, testbed.round.activities))

    first, second = testbed.view({}, frozenset()), testbed.view({}, frozenset())

    assert (testbed.clock.now_s, testbed.round.ledgers, testbed.round.activities) == before
    assert replace(first, rng=second.rng) == second


def test_a_round_is_closed_before_the_next_is_opened() -> None:
    testbed = opened()

    with pytest.raises(RuntimeError, match="round 0 is still open"):
        testbed.open_round(1)
    testbed.close_round()
    with pytest.raises(RuntimeError, match="no round is open"):
        testbed.close_round()


def updates_of(jobs: Sequence[Job]) -> list[Update]:
    return [
        Update(
            device_id=job.device_id,
            assignment=job.assignment,
            payload={},
            n_examples=7,
            metrics={"train_loss": 0.5},
        )
        for job in jobs
    ]


def test_resolved_jobs_put_their_metrics_into_the_report() -> None:
    testbed = opened(train=updates_of)
    job = testbed.job(ASSIGNMENT, {}, inner_round=1)

    testbed.resolve([job])

    seen = testbed.close_round().devices[0]
    assert (seen.n_examples, seen.metrics) == (7, {"train_loss": 0.5})
    assert (job.round_index, job.inner_round, job.device_id) == (0, 1, 0)


def test_a_round_without_training_trains_nothing() -> None:
    testbed = opened()

    assert not testbed.resolves
    assert testbed.resolve([testbed.job(ASSIGNMENT, {})]) == []


def test_nobody_is_asked_to_train_nothing() -> None:
    testbed = opened(train=lambda jobs: pytest.fail("called"))

    assert testbed.resolve([]) == []


def test_an_evaluation_is_handed_on() -> None:
    evaluation = Evaluation(accuracy=0.5, loss=1.0, n_examples=10)

    assert opened().close_round(evaluation).evaluation is evaluation


def test_a_new_round_starts_with_clean_ledgers() -> None:
    testbed = opened()
    testbed.clock.run(run(testbed))
    testbed.close_round()

    testbed.open_round(1)

    seen = testbed.close_round().devices[0]
    assert (seen.status, seen.compute_s, seen.waiting_s, seen.upload_bytes) == (Status.IDLE, 0.0, 0.0, 0)


def test_the_first_setting_outside_the_known_range_is_noted_once_for_each_kind_of_board() -> None:
    testbed = opened()
    assert testbed.outside_known_range == {}

    testbed.clock.run(run(testbed))
    testbed.clock.run(run(testbed, work=replace(WORK, batch_size=9)))

    # The boards of an exact testbed state no range; only the one that computed is named.
    assert testbed.outside_known_range == {"exact-0": "the profile states no range in which it is known"}


def test_where_devices_drop_out_the_masks_take_memory() -> None:
    testbed = opened(1, dropout=True)
    under_way = testbed.round

    large = replace(WORK, batch_size=512)  # a few megabytes, in segments of two
    testbed.clock.run(run(testbed, work=large))

    assert under_way.ledgers[0].peak_memory_bytes == peak_memory(MODEL, large, "fp32", dropout=True).total_bytes
    assert under_way.ledgers[0].peak_memory_bytes > peak_memory(MODEL, large, "fp32").total_bytes


def test_the_first_work_after_a_change_of_mode_takes_the_penalty_longer() -> None:
    testbed = opened(1, n_modes=2, mode_switch_penalty_s=5.0)
    modes, compute_s = [], []
    for round_index in range(12):
        modes.append(testbed.round.conditions.modes[0].name)
        testbed.clock.run(run(testbed))
        testbed.clock.run(run(testbed))
        compute_s.append(testbed.close_round().devices[0].compute_s)
        testbed.open_round(round_index + 1)

    changed = [False] + [now != before for before, now in pairwise(modes)]
    assert compute_s == [2 * 6.0 + 5.0 * has_changed for has_changed in changed]
    assert 0 < sum(changed) < 11


def test_a_hot_board_slows_down_and_cools_while_it_waits() -> None:
    # 10 W bring 100 K in the end: the limit comes ln 2 time constants after a cold start, that is at 3 s of 6
    thermal = Thermal(rise_k_per_w=10, time_constant_s=3 / np.log(2), limit_k=50, throttled_speed_fraction=0.5)
    testbed = opened(1, thermal=thermal)

    testbed.clock.run(run(testbed, down=0))

    seen = testbed.close_round().devices[0]
    assert seen.compute_s == pytest.approx(3 + 3 / 0.5)
    assert seen.forward_s + seen.backward_s == seen.compute_s


def test_a_round_in_which_no_mode_is_drawn_switches_none() -> None:
    modes = PowerModes(np.array([8] * 50), 3, Seeds(0))
    assert [bool(modes.switched(round_index)) for round_index in range(7)] == [*[False] * 3, True, False, False, True]
    before, after = modes.indices(2), modes.indices(3)
    assert modes.switched(3) == {device for device in range(50) if before[device] != after[device]}


def test_a_computation_draws_by_how_busy_it_keeps_a_board_that_has_a_power_law() -> None:
    testbed = opened(n_devices=1)
    this = testbed.round
    law = PowerLaw(awake_w=3.0, arithmetic_w={"fp32": 4.0, "amp": 2.0}, memory_w=1.0)
    mode = replace(this.conditions.modes[0], power_law=law, effective_flop_per_s={"fp32": 1e3, "amp": 1e3})
    this.conditions = replace(this.conditions, modes=(mode,))
    arithmetic_s = price(MODEL, WORK, mode, "fp32").forward_s + price(MODEL, WORK, mode, "fp32").backward_s - 3 * 2.0
    testbed.clock.run(run(testbed))
    computing_j = 3.0 * (arithmetic_s + 6.0) + 4.0 * arithmetic_s  # the 2 s of each step keep nothing busy
    assert this.ledgers[0].energy_j == pytest.approx(computing_j + TRANSFER_W * (2.0 + 0.5))
