"""Composes a run from its configuration: cluster, models, policy, testbed, hosts and the folder it is written to."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from device_profiles.records import ClusterSpec
from emulator.config import Config
from emulator.errors import ConfigError
from emulator.forms.base import AdapterForm
from emulator.observers.base import RunObserver
from emulator.observers.catalog import observers_of
from emulator.observers.many import Observers
from emulator.policy.base import Policy
from emulator.policy.catalog import import_path
from emulator.policy.checked import CheckedPolicy
from emulator.records import Arrays, TrainingDefaults
from emulator.results.info import read_info
from emulator.results.writer import INFO_FILE, RunWriter, check_out_dir
from emulator.running.compression import check_compression, check_feedback, compression_of
from emulator.running.continuation import (
    Continuation,
    check_memory,
    check_rounds,
    check_same_run,
    checkpoint_of,
    clear_temporaries,
    package_of,
)
from emulator.running.coordinator import Coordinator, Emulation
from emulator.running.foreground_load import foreground_of
from emulator.running.hosts import Backend
from emulator.running.inputs import (
    availability_of,
    check_depth_map,
    check_fit,
    price_name,
)
from emulator.running.interruption import Interrupted, StopSignal
from emulator.running.live.clock import LiveClock
from emulator.running.live.testbed import LiveTestbed
from emulator.running.mode_schedule import mode_changes_of
from emulator.running.optimizers import (
    check_base_precision,
    check_optimizers,
    local_optimizer,
    savers_of,
    schedule_of,
    server_optimizer_of,
)
from emulator.running.pace import PacedClock
from emulator.running.progress import LiveProgress
from emulator.running.resolve import cluster_of, form_of, policy_of, priced_model, system_of
from emulator.running.run_info import run_info
from emulator.running.run_log import RunLog
from emulator.running.stopping import Stopping
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec
from emulator.storage.claims import MOST_DYING_S
from emulator.storage.patience import Patience
from emulator.storage.places import Place, RemotePath
from emulator.world.availability import DropOuts
from emulator.world.clock import Clock
from emulator.world.devices import Boards, Device
from emulator.world.network.links import Links
from emulator.world.network.shared_network import shared_capacity
from emulator.world.power_modes import PowerModes
from emulator.world.system import SystemTestbed
from emulator.world.testbed import Testbed

StartBackend = Callable[[int], Backend]
"""Starts the hosts for so many devices."""


def check(config: Config, out_dir: Place) -> None:
    """Find what is wrong with a run before any process is started or model loaded.

    Raises:
        ConfigError: something is.
    """
    check_out_dir(out_dir)
    check_settings(config)
    if isinstance(out_dir, RemotePath) and (
        needy := [each for each in observers_of(config) if each.needs_local_folder]
    ):
        raise ConfigError(
            f"the observer {import_path(type(needy[0]))} writes files of its own beside the tables, on this machine "
            f"alone; leave it out, or give --out a folder, got {str(out_dir)!r}"
        )


def check_settings(config: Config) -> None:
    """As :func:`check`, whatever folder the run goes to."""
    availability_of(config.testbed.availability, cluster_of(config).n_devices, Seeds(config.seed))
    foreground_of(config.testbed.foreground, cluster_of(config).n_devices, Seeds(config.seed))
    mode_changes_of(config.testbed.mode_changes, cluster_of(config))
    observers_of(config)
    policy = policy_of(config)
    check_fit(config, policy)
    check_optimizers(config, policy)
    check_compression(config, policy)
    if system_of(config) and policy.protocol.exchanges_steps:
        raise ConfigError(
            f"testbed.system: policy {import_path(type(policy))} exchanges something at every step, which no known "
            "system does; leave it out, or choose another policy"
        )
    Stopping.of(config)
    if price_name(config) != "trained" or not config.training.enabled:
        form = form_of(policy, priced_model(config, n_labels=2, trained=None))
        check_depth_map(config, policy, form)
        check_base_precision(config, policy, form)


def build_coordinator(
    config: Config,
    out_dir: Place,
    start_backend: StartBackend | None,
    observers: Sequence[RunObserver],
    stop: StopSignal,
) -> Coordinator:
    """Everything of a run, ready to start. ``start_backend(n_devices)`` gives the hosts; None runs without training.

    The configuration's own observers are told before ``observers``.

    Raises:
        UserError: something in the configuration, the model or the data cannot be used.
    """
    told = Observers([*observers_of(config), *observers])
    progress = LiveProgress(config.rounds, told)
    clock = _clock(config, stop, progress.warn)
    emulation = build_emulation(config, start_backend, clock)
    info = run_info(config, emulation)
    pause = partial(_pause, stop)
    patience = Patience(config.results.wait_s, told.warned, pause)
    log = RunLog(
        writer=RunWriter(out_dir, config.rounds_per_part, patience),
        run_info=info,
        progress=progress,
        observers=told,
        start_timings=emulation.backend.timings() if emulation.backend else [],
        label_counts=emulation.backend.prepared.label_histograms if emulation.backend else None,
        strata=emulation.backend.prepared.strata if emulation.backend else (),
    )
    for remark in emulation.backend.prepared.remarks if emulation.backend else ():
        told.warned(remark)
    n_devices = len(emulation.testbed.devices)
    if notes := availability_of(config.testbed.availability, n_devices, Seeds(config.seed)).notes:
        progress.warn("; ".join(notes))
    if config.checkpoint_rounds:
        check_memory(emulation.policy)
    # The last round is evaluated in any case, which that round of a longer run would not be.
    is_in_turn = config.rounds % config.evaluation.every_rounds == 0
    last_round = config.rounds - 1 if is_in_turn else None
    kept = emulation.policy, emulation.testbed.unsent
    continuation = Continuation(out_dir, *kept, config.checkpoint_rounds, last_round, patience)
    if (out_dir / INFO_FILE).exists():
        log.claim(MOST_DYING_S, pause)  # the coordinator before may be dying still
        try:
            emulation = _where_it_was(config, out_dir, emulation, log, continuation, info)
        except BaseException:
            log.release()
            raise
        if emulation.first_round == 0:
            told.warned("the run begins anew with round 0, since it has come to no checkpoint yet")
    return Coordinator(config, emulation, log, continuation, stop)


def _clock(config: Config, stop: StopSignal, warn: Callable[[str], None]) -> Clock:
    """Emulated time, with what keeps it to the wall where something does."""
    if config.pace_factor is None:
        return Clock()
    made = LiveClock if config.is_live else PacedClock
    return made(config.pace_factor, stop, warn)


def _pause(stop: StopSignal, pause_s: float) -> None:
    if stop.wait(pause_s):
        raise Interrupted


def _where_it_was(
    config: Config, out_dir: Place, emulation: Emulation, log: RunLog, continuation: Continuation, info: dict[str, Any]
) -> Emulation:
    """``emulation`` where the run in ``out_dir`` was when its last checkpoint was written; its start if there is none.

    Raises:
        UserError: it is another run, or its checkpoint is damaged.
    """
    before = read_info(out_dir)
    check_same_run(before, info, out_dir)
    clear_temporaries(out_dir)
    found = checkpoint_of(out_dir, [package_of(emulation.policy.name)])
    n_before, n_done = int(before["config"]["rounds"]), found[0].n_rounds if found else 0
    check_rounds(n_before, config.rounds, config.evaluation.every_rounds, n_done)
    if found is None:
        log.goes_on(before, {})
        return emulation
    checkpoint, index = found
    state = continuation.go_on(emulation.testbed, checkpoint, index)
    log.goes_on(before, checkpoint.totals)
    return replace(emulation, initial_state=state, first_round=n_done)


def build_emulation(config: Config, start_backend: StartBackend | None, clock: Clock) -> Emulation:
    """The policy, the boards and the hosts of a run, on which nothing has happened yet.

    Raises:
        UserError: something in the configuration, the model or the data cannot be used.
    """
    cluster, policy = cluster_of(config), policy_of(config)
    backend = start_backend(cluster.n_devices) if start_backend else None
    trained = backend.prepared.model if backend else None
    priced = priced_model(config, len(backend.prepared.label_names) if backend else 2, trained)
    form = form_of(policy, priced, trained)
    check_feedback(config, form, policy)
    check_base_precision(config, policy, form)
    make = _kind_of_testbed(config, policy, backend)
    testbed = _testbed(config, cluster, priced, form, _facts(config, cluster, backend), clock, make)
    state = _initial_state(config, form, backend) if backend else {}
    checked = CheckedPolicy(policy, form)
    if backend:
        checked = CheckedPolicy(policy, form, backend.add_up, server_optimizer_of(config))
    return Emulation(policy=checked, testbed=testbed, backend=backend, initial_state=state)


def _kind_of_testbed(config: Config, policy: Policy, backend: Backend | None) -> Callable[..., Testbed]:
    if backend and backend.live:
        return partial(LiveTestbed, live=backend.live, task=policy.task)
    system = system_of(config)
    return partial(SystemTestbed, system=system) if system else Testbed


def _initial_state(config: Config, form: AdapterForm, backend: Backend) -> Arrays:
    """Adapters and head before the first round."""
    arrays = form.initial(backend.prepared.model, Seeds(config.seed))
    if form.holds_weights:
        arrays = backend.own_arrays(list(arrays))
    if sites := form.sites_at_start():
        arrays = form.fitted(arrays, backend.weights(sites))
    return {**arrays, **backend.prepared.head}


def _testbed(
    config: Config,
    cluster: ClusterSpec,
    priced: ModelSpec,
    form: AdapterForm,
    facts: Mapping[str, Sequence[Any]],
    clock: Clock,
    make: Callable[..., Testbed],
) -> Testbed:
    entries, n_devices, seeds = cluster.entry_by_device, cluster.n_devices, Seeds(config.seed)
    n_modes = np.array([len(entry.modes) for entry in entries])
    return make(
        boards=Boards(
            devices=[Device(number, entry.profile, entry.modes) for number, entry in enumerate(entries)],
            power_modes=PowerModes(
                n_modes, cluster.power_mode_redraw_rounds, seeds, mode_changes_of(config.testbed.mode_changes, cluster)
            ),
            jitter_fraction=cluster.compute_jitter_fraction,
            mode_switch_penalty_s=cluster.mode_switch_penalty_s,
            thermal=cluster.thermal,
            foreground=foreground_of(config.testbed.foreground, n_devices, seeds),
        ),
        links=Links([entry.link for entry in entries], seeds, config.testbed.link_heterogeneity),
        model=priced,
        form=form,
        training=TrainingDefaults(
            n_steps=config.training.local_steps,
            batch_size=config.training.batch_size,
            learning_rate=config.training.learning_rate,
            precision=config.testbed.precision,
            dropout=config.training.dropout,
            optimizer=local_optimizer(config),
            schedule=schedule_of(config),
            savers=savers_of(config),
            compression=compression_of(config),
        ),
        seeds=seeds,
        facts=facts,
        clock=clock,
        availability=availability_of(config.testbed.availability, n_devices, seeds),
        drop_outs=DropOuts(n_devices, config.testbed.availability.drop_out_fraction, seeds),
        shared=shared_capacity(cluster),
        server_flop_per_s=(config.testbed.server_tflop_per_s or math.inf) * 1e12,
    )


def _facts(config: Config, cluster: ClusterSpec, backend: Backend | None) -> dict[str, Sequence[Any]]:
    facts: dict[str, Sequence[Any]] = {
        "memory_bytes": [entry.profile.usable_memory_bytes for entry in cluster.entry_by_device],
        "allocator": [entry.profile.allocator for entry in cluster.entry_by_device],
        "flop_per_s": [
            profile.mode(profile.default_mode).effective_flop_per_s[config.testbed.precision]
            for profile in (entry.profile for entry in cluster.entry_by_device)
        ],
    }
    if backend:
        facts["label_histogram"] = list(backend.prepared.label_histograms)
        facts["n_examples"] = backend.prepared.n_examples.tolist()
    return facts
