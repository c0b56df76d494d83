"""Looks at a run before it is started: plays its first rounds without training, and times a stack of jobs."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from device_profiles.provenance import Provenance
from device_profiles.records import ClusterSpec
from emulator.backends.content import check_content, numeric_settings
from emulator.backends.kinds import backend_kind
from emulator.backends.stacks import declared_cost, most_stacked, stack_jobs
from emulator.config import Config
from emulator.errors import ShortageError, UserError
from emulator.launch.execute import rounds_to_go_on_from
from emulator.policy.rounds import play_round
from emulator.records import Job, Prepared, Status
from emulator.results.writer import check_out_dir
from emulator.running.capacity import (
    HOST_BYTES,
    asked_hosts,
    available_bytes,
    free_here,
    hosts_on_gpus,
    most_hosts,
    n_cores,
    n_gpus,
    n_hosts,
    trained_bytes,
    with_gpus,
)
from emulator.running.compose import build_emulation, check_settings
from emulator.running.continuation import check_memory
from emulator.running.coordinator import Emulation
from emulator.running.hosts import Backend
from emulator.running.inputs import availability_of
from emulator.running.resolve import cluster_of
from emulator.seeds import Seeds
from emulator.storage.places import Place, StorageError
from emulator.world.clock import Clock
from emulator.world.ledger import Ledger

MOST_LISTED = 8
"""So many names of columns or classes are shown."""
MOST_ROUNDS = 3
"""So many rounds are played. One is not enough: the first of some policies only warms up, or spares nobody yet."""
MOST_CALIBRATION_S = 5.0
"""So long one part of the calibration may be expected to take; longer ones are extrapolated from a single step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that may stand in the way of a run, and what was found."""

    name: str
    is_fine: bool
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardPlan:
    """What the rounds that were played ask of the boards of one kind. Depths are layers that are differentiated.

    ``n_cohort``, ``peak_memory_bytes`` and ``n_out_of_memory`` are the most of any round, ranges go over all of them.
    ``compute_w`` is what the board draws while it computes, over its power modes, and ``power_origin`` where that comes
    from, such as the rails that were read; None where its profile does not say.
    """

    device: str
    n_devices: int
    n_cohort: int
    min_depth: int
    max_depth: int
    peak_memory_bytes: int
    usable_memory_bytes: int
    n_out_of_memory: int
    compute_s: tuple[float, float]
    transfer_s: tuple[float, float]
    compute_w: tuple[float, float]
    power_origin: Provenance | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _RoundAhead:
    """A round as it was played: its length, the ledgers of its cohort, and what it would train in an inner round."""

    length_s: float
    cohort: Mapping[int, Ledger]
    jobs: tuple[Job, ...]
    n_inner_rounds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WallTime:
    """What the run is expected to take here: once, and for each round."""

    start_s: float
    round_s: float
    n_rounds: int

    @property
    def total_s(self) -> float:
        return self.start_s + self.n_rounds * self.round_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Preflight:
    """All that was found. ``boards`` and ``wall`` are missing where an earlier check failed.

    ``rounds_s`` is the emulated length of each round that was played, the first of the run; ``understood`` says what
    was read of data and model, and as what.
    """

    checks: tuple[Check, ...]
    boards: tuple[BoardPlan, ...] = ()
    rounds_s: tuple[float, ...] = ()
    outside_known_range: Mapping[str, str]
    understood: Mapping[str, str] = field(default_factory=dict)
    wall: WallTime | None = None

    @property
    def will_fit(self) -> bool:
        return all(check.is_fine for check in self.checks)


def examine(config: Config, out_dir: Place) -> Preflight:
    """Plan and play the first rounds of ``config``, and find what does not fit. Nothing is written.

    Raises:
        UserError: something in the configuration, the model or the data cannot be used at all.
    """
    config = with_gpus(config, n_gpus())
    check_settings(config)
    if config.training.enabled:
        check_content(config)
    cluster = cluster_of(config)
    checks = [_output_folder(config, out_dir), *_hosts(config, cluster.n_devices)]
    if not all(check.is_fine for check in checks[1:]):
        return Preflight(checks=tuple(checks), outside_known_range={})
    start_s = time.perf_counter()
    try:
        start_backend = None
        if config.training.enabled:
            from emulator.backends.inline import InlineBackend  # which loads torch, after all that needs none

            start_backend = partial(InlineBackend, config)
        emulation = build_emulation(config, start_backend, Clock())
    except ShortageError as error:
        return Preflight(checks=(*checks, Check(name="data", is_fine=False, detail=str(error))), outside_known_range={})
    load_s = time.perf_counter() - start_s
    checks += _traces(config, cluster)
    if emulation.backend:
        n_examples = emulation.backend.prepared.n_examples
        checks.append(
            Check(name="data", is_fine=True, detail=f"{n_examples.min()} to {n_examples.max()} examples per device")
        )
    start_s = time.perf_counter()
    if config.checkpoint_rounds:
        check_memory(emulation.policy)
    played = _played_rounds(emulation, min(MOST_ROUNDS, config.rounds))
    if config.checkpoint_rounds:
        check_memory(emulation.policy)
    round_s = (time.perf_counter() - start_s) / len(played)
    boards = _boards(emulation, played)
    checks.append(_device_memory(boards))
    if emulation.backend:
        round_s += _training_s(config, emulation, emulation.backend, played)
        load_s += backend_kind(config.backend.kind).start_s
    return Preflight(
        checks=tuple(checks),
        boards=boards,
        rounds_s=tuple(each.length_s for each in played),
        outside_known_range=dict(emulation.testbed.outside_known_range),
        understood=_understood(emulation.backend.prepared) if emulation.backend else {},
        wall=WallTime(start_s=load_s, round_s=round_s, n_rounds=config.rounds),
    )


def _traces(config: Config, cluster: ClusterSpec) -> list[Check]:
    """What was understood of the traces that the run replays."""
    checks = []
    availability = config.testbed.availability
    if availability.kind == "trace":
        traced = availability_of(availability, cluster.n_devices, Seeds(config.seed))
        ends_s = traced.until_s(0.0)
        n_now = int((ends_s > 0).sum())
        later = f"the first comes at {traced.next_s(0.0):,.10g} s"
        first = f"{n_now} can be reached as the run begins" if n_now else later
        said = "; ".join([f"{cluster.n_devices} devices, of which {first}", *traced.notes])
        checks.append(Check(name="availability", is_fine=True, detail=f"{availability.trace}: {said}"))
    for link in {entry.link.name: entry.link for entry in cluster.entries}.values():
        if recorded := link.recorded():
            checks.append(Check(name="link", is_fine=True, detail=f"{link.name}: {recorded}"))
    return checks


def _understood(prepared: Prepared) -> dict[str, str]:
    """What was read of data and model, a line each."""
    facts = prepared.understood
    lines: dict[str, str] = {}
    if facts:
        columns = f", columns {', '.join(facts['columns'][:MOST_LISTED])}" if facts["columns"] else ""
        lines["data"] = (
            f"{facts['source']}, {facts['form']}: {facts['n_train']} training and {facts['n_test']} held-out rows"
            f"{columns}"
        )
        if "classes" in facts:
            classes = [f"{name} ({train} + {test})" for name, (train, test) in facts["classes"].items()]
            more = f" and {len(classes) - MOST_LISTED} more" if len(classes) > MOST_LISTED else ""
            lines["classes"] = ", ".join(classes[:MOST_LISTED]) + more
        lines["example"] = _shown_example(facts["example"])
        cut = facts["cut"]
        lines["cut"] = (
            f"{cut['n_texts_cut']} of {cut['n_texts']} texts and {cut['n_tokens_cut']} of {cut['n_tokens']} tokens, at "
            f"data.seq_len={cut['seq_len']}"
        )
        padding = facts["padding"]
        stated = padding["id_in_config"]
        told = "as in config.json" if stated == padding["id"] else f"config.json says {stated}, which does not count"
        lines["padding"] = f"{padding['token']!r}, id {padding['id']}, from the tokenizer ({told})"
    for number, remark in enumerate(prepared.remarks, start=1):
        if not (facts and remark.startswith(("data:", f"{facts['cut']['n_texts_cut']} of"))):
            lines[f"remark {number}"] = remark
    return lines


def _shown_example(example: Mapping[str, Any]) -> str:
    """A row in words: a text and what it is, or what is given of a passage and what of it is learnt."""
    if "learnt" in example:
        return f"{example['learnt']!r} is learnt behind {example['given']!r}"
    return f"{example['text']!r} is {example['label']!r}"


def _output_folder(config: Config, out_dir: Place) -> Check:
    try:
        if n_rounds := rounds_to_go_on_from(config, out_dir):
            detail = f"{out_dir} holds the run with {n_rounds} rounds; it goes on up to {config.rounds}"
            return Check(name="output folder", is_fine=True, detail=detail)
        check_out_dir(out_dir)
    except StorageError:
        raise
    except UserError as error:
        return Check(name="output folder", is_fine=False, detail=str(error))
    return Check(name="output folder", is_fine=True, detail=f"{out_dir} can be written")


def _hosts(config: Config, n_devices: int) -> list[Check]:
    """Whether as many host processes as the run would start have room, and GPUs, on this machine."""
    if not config.training.enabled:
        return [Check(name="hosts", is_fine=True, detail="none, since nothing is trained")]
    number = _n_hosts(config, n_devices)
    per_host = -(-n_devices // number)
    model_bytes = trained_bytes(config)
    needed_bytes = backend_kind(config.backend.kind).own_bytes + number * HOST_BYTES + model_bytes
    free_bytes = available_bytes()
    detail = f"{number} of up to {per_host} devices each, on {n_cores()} cores"
    if os.environ.get("RAY_ADDRESS"):
        detail += "; looks at this machine alone, not at the cluster that RAY_ADDRESS names"
    checks = [Check(name="hosts", is_fine=True, detail=detail)]
    if share := config.backend.gpu_share:
        is_fine = number <= hosts_on_gpus(n_gpus(), share)
        checks.append(
            Check(name="GPUs", is_fine=is_fine, detail=f"{number} hosts x {share:g}, of {n_gpus()} on this machine")
        )
    if free_bytes is None:
        return [*checks, Check(name="host memory", is_fine=True, detail="not told by this system")]
    detail = (
        f"{number} x {HOST_BYTES / 2**20:.0f} MiB and the model's {model_bytes / 2**20:.0f} MiB, "
        f"{needed_bytes / 2**30:.1f} GiB in all; {free_bytes / 2**30:.1f} GiB are free to this process"
    )
    if needed_bytes > free_bytes:
        detail += "; raise backend.devices_per_actor or lower backend.hosts"
    return [*checks, Check(name="host memory", is_fine=needed_bytes <= free_bytes, detail=detail)]


def _n_hosts(config: Config, n_devices: int) -> int:
    backend = backend_kind(config.backend.kind)
    if not backend.has_host_processes:
        return 1
    most = most_hosts(n_devices, numeric_settings(config).devices_stacked)
    return n_hosts(config, free_here(backend.own_bytes), asked=asked_hosts(config, n_devices), most=most)


def _played_rounds(emulation: Emulation, n_rounds: int) -> tuple[_RoundAhead, ...]:
    """Play the first rounds without training: at least one, and those that are planned without what training tells.

    Raises:
        UserError: the policy fails in the first round, or in any of a run that trains nothing anyway.
    """
    played: list[_RoundAhead] = []
    for round_index in range(n_rounds):
        try:
            played.append(_play(emulation, round_index))
        except Exception:
            if not played or emulation.backend is None:
                raise
            break
    return tuple(played)


def _play(emulation: Emulation, round_index: int) -> _RoundAhead:
    testbed, policy, state = emulation.testbed, emulation.policy, emulation.initial_state
    if round_index > 0:
        policy.observe(testbed.close_round())
    opened = play_round(testbed, policy, round_index, state, train=None).opened
    cohort = {device_id: opened.ledgers[device_id] for device_id in opened.plan.assignments}
    return _RoundAhead(
        length_s=testbed.clock.now_s - opened.start_s,
        cohort=cohort,
        jobs=tuple(
            testbed.job(assignment, state)
            for assignment in opened.plan.assignments.values()
            if cohort[assignment.device_id].status is Status.OK
        ),
        n_inner_rounds=max(ledger.n_inner_rounds for ledger in opened.ledgers),
    )


def _boards(emulation: Emulation, played: Sequence[_RoundAhead]) -> tuple[BoardPlan, ...]:
    testbed = emulation.testbed
    ids_by_name: dict[str, list[int]] = {}
    for device in testbed.devices:
        ids_by_name.setdefault(device.profile.name, []).append(device.device_id)
    boards = []
    for name, ids in ids_by_name.items():
        profile = testbed.devices[ids[0]].profile
        cohorts = [[each.cohort[device_id] for device_id in ids if device_id in each.cohort] for each in played]
        ledgers = [ledger for cohort in cohorts for ledger in cohort]
        depths = [ledger.work.backward_layers for ledger in ledgers if ledger.work] or [0]
        board = BoardPlan(
            device=name,
            n_devices=len(ids),
            n_cohort=max(len(cohort) for cohort in cohorts),
            min_depth=min(depths),
            max_depth=max(depths),
            peak_memory_bytes=max((ledger.peak_memory_bytes for ledger in ledgers), default=0),
            usable_memory_bytes=profile.usable_memory_bytes,
            n_out_of_memory=max(sum(ledger.status is Status.OUT_OF_MEMORY for ledger in cohort) for cohort in cohorts),
            compute_s=_range([ledger.forward_s + ledger.backward_s for ledger in ledgers]),
            transfer_s=_range([ledger.download_s + ledger.upload_s for ledger in ledgers]),
            compute_w=_range([watts for mode in profile.power_modes for watts in mode.compute_range_w]),
            power_origin=profile.provenance.get("awake_w") or profile.provenance.get("compute_w"),
        )
        boards.append(board)
    return tuple(boards)


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values, default=0.0), max(values, default=0.0)


def _device_memory(boards: Sequence[BoardPlan]) -> Check:
    full = [board for board in boards if board.n_out_of_memory]
    if not full:
        return Check(name="device memory", is_fine=True, detail="what devices are asked for fits")
    said = ", ".join(f"{board.n_out_of_memory} of {board.n_cohort} {board.device}" for board in full)
    advice = "lower training.batch_size or model.price_seq_len, or the policy's depth or rank"
    return Check(name="device memory", is_fine=False, detail=f"out of memory: {said}; {advice}")


def _training_s(config: Config, emulation: Emulation, backend: Backend, played: Sequence[_RoundAhead]) -> float:
    """Wall time of a round's training and evaluation, from a stack of the dearest round that is really trained."""
    testbed, form, state = emulation.testbed, emulation.testbed.form, emulation.initial_state
    settings, model = numeric_settings(config), backend.prepared.model
    stacked = most_stacked(form, settings.devices_stacked)
    most_cost = 0.0
    stacks: list[list[Job]] = []
    costs: list[float] = []
    for each in played:
        stacks_of_round = stack_jobs(each.jobs, stacked, config.backend.devices_per_actor)
        costs_of_round = [declared_cost(stack, form, model) for stack in stacks_of_round]
        if each.n_inner_rounds * sum(costs_of_round) > most_cost:
            most_cost, stacks, costs = each.n_inner_rounds * sum(costs_of_round), stacks_of_round, costs_of_round
    if not stacks:
        return 0.0
    sample = max(range(len(stacks)), key=lambda index: costs[index])
    single = [replace(job, assignment=replace(job.assignment, n_steps=1)) for job in stacks[sample]]
    single_cost = declared_cost(single, form, model)

    def seconds(work: Sequence[Job]) -> float:
        start_s = time.perf_counter()
        backend.train(emulation.policy.task, form, work, lambda done, total: None)
        return time.perf_counter() - start_s

    seconds(single)  # warms up
    second_per_cost = seconds(single) / single_cost
    if second_per_cost * costs[sample] < MOST_CALIBRATION_S:
        second_per_cost = seconds(stacks[sample]) / costs[sample]
    evaluation_s = second_per_cost * _n_evaluated(backend) * model.n_layers
    if evaluation_s < MOST_CALIBRATION_S:
        start_s = time.perf_counter()
        backend.evaluate(form, state)
        evaluation_s = time.perf_counter() - start_s
    total_s = second_per_cost * most_cost + evaluation_s / config.evaluation.every_rounds
    return total_s / min(_n_hosts(config, len(testbed.devices)), n_cores())


def _n_evaluated(backend: Backend) -> int:
    """Held-out rows of the server and of the devices."""
    return max(backend.prepared.n_test_rows, int(backend.prepared.own_test_offsets[-1]))
