"""What the names in a configuration stand for: cluster, policy, priced model, form, and all settings."""

from dataclasses import replace
from typing import Any

from device_profiles.catalog import ProfileError, load_cluster, load_link, load_swap, load_system
from device_profiles.records import ClusterSpec
from device_profiles.spreading import spread_compute, spread_memory
from device_profiles.system_file import SystemSpec
from emulator.config import Config
from emulator.errors import ConfigError, UserError
from emulator.forms.base import AdapterForm
from emulator.policy.base import Policy
from emulator.policy.catalog import build_policy, import_path, resolved_parameters
from emulator.policy.validation import check_combination, check_form
from emulator.running.inputs import (
    price_name,
    trace_sha256,
    with_depth_of,
)
from emulator.running.objectives import run_objective
from emulator.shapes.catalog import check_hub_id
from emulator.shapes.names import ModelKind, ModelName
from emulator.shapes.spec import ModelSpec
from emulator.world.devices import DEVICE_FACTS, HARDWARE_FACTS

PRICED_SEQ_LEN = 128
"""Tokens that devices pay for where the priced model is not the trained one; papers use 128 to 256 (from memory)."""


def cluster_of(config: Config) -> ClusterSpec:
    """The run's cluster, on ``testbed.link``, scaled to ``testbed.n_devices``, as heterogeneous as the run wants it.

    Raises:
        ConfigError: there is no such cluster, link or swap, its file is wrong, or a board has no room for a desktop.
    """
    try:
        cluster = load_cluster(config.testbed.cluster)
    except ProfileError as error:
        raise ConfigError(f"testbed.cluster: {error}") from None
    if config.testbed.link:
        try:
            link = load_link(config.testbed.link)
        except ProfileError as error:
            raise ConfigError(f"testbed.link: {error}") from None
        cluster = replace(cluster, entries=tuple(replace(entry, link=link) for entry in cluster.entries))
    if config.testbed.n_devices:
        cluster = cluster.resized(config.testbed.n_devices)
    if config.testbed.compute_heterogeneity != 1:
        cluster = spread_compute(cluster, config.testbed.compute_heterogeneity)
    if config.testbed.memory_heterogeneity != 1:
        cluster = spread_memory(cluster, config.testbed.memory_heterogeneity)
    return _with_memory(cluster, config)


def _with_memory(cluster: ClusterSpec, config: Config) -> ClusterSpec:
    """The boards with desktop and swap, where the run wants them."""
    swap, desktop = config.testbed.swap, config.testbed.desktop
    if swap is None and not desktop:
        return cluster
    try:
        swap_spec = load_swap(swap) if swap is not None else None
    except ProfileError as error:
        raise ConfigError(f"testbed.swap: {error}") from None
    entries = []
    for entry in cluster.entries:
        try:
            profile = entry.profile.with_desktop() if desktop else entry.profile
        except ValueError as error:
            raise ConfigError(f"testbed.desktop: {error}; leave it out, got true") from None
        entries.append(replace(entry, profile=replace(profile, swap=swap_spec)))
    return replace(cluster, entries=tuple(entries))


def system_of(config: Config) -> SystemSpec | None:
    """The software of the run's federation; None where messages are known at once and cost their payload.

    Raises:
        ConfigError: there is no such system, its file is wrong, or the devices of the run are real ones.
    """
    name = config.testbed.system
    if name is None:
        return None
    if config.is_live:
        raise ConfigError(
            "testbed.system: what a system adds is emulated for emulated devices alone; leave it out, or choose "
            f"another backend.kind than 'live', got {name!r}"
        )
    try:
        return load_system(name)
    except ProfileError as error:
        raise ConfigError(f"testbed.system: {error}") from None


def device_speeds(config: Config) -> tuple[float, ...]:
    """FLOP per second of each device of a run in the fastest of its power modes, in the arithmetic of the run."""
    precision = config.testbed.precision
    return tuple(
        max(mode.effective_flop_per_s[precision] for mode in entry.modes)
        for entry in cluster_of(config).entry_by_device
    )


def policy_of(config: Config) -> Policy:
    """A fresh policy with the run's parameters.

    Raises:
        ConfigError: there is no such policy, or it does not take these parameters.
    """
    policy = build_policy(config.policy.path, config.policy.parameters)
    facts = DEVICE_FACTS if config.training.enabled else HARDWARE_FACTS
    if unknown := sorted(policy.declares - set(facts)):
        when, advice = "", ""
        if not config.training.enabled:
            when = " in a run without training"
            advice = "; train (training.enabled = true) or choose another policy"
        raise ConfigError(
            f"{import_path(type(policy))} declares {unknown[0]!r}; a policy may declare{when}: "
            f"{', '.join(facts)}{advice}"
        )
    return policy


def priced_model(config: Config, n_labels: int, trained: ModelSpec | None) -> ModelSpec:
    """The shapes that the devices pay for; ``trained`` may be None where they are not the trained model's own.

    Raises:
        ConfigError: there is no such model, or it differs from the trained one in its number of layers.
    """
    name, objective, head = price_name(config), run_objective(config), config.model.head
    asked, asked_by = (config.model.train, "model.train") if name == "trained" else (name, "model.price")
    if ModelName(asked).kind is ModelKind.HUB:
        check_hub_id(asked, asked_by)
    if name == "trained":
        seq_len = config.model.price_seq_len or config.data.seq_len
        if trained is not None:
            return objective.priced(trained.with_seq_len(seq_len))
        key = "model.price_seq_len" if config.model.price_seq_len else "data.seq_len"
        return objective.spec(config.model.train, n_labels=n_labels, seq_len=seq_len, head=head, seq_len_key=key)
    seq_len = config.model.price_seq_len or PRICED_SEQ_LEN
    key = "model.price_seq_len"
    priced = objective.spec(name, n_labels=n_labels, seq_len=seq_len, head=head, seq_len_key=key, like=trained)
    return priced if trained is None else with_depth_of(trained, priced, config)


def form_of(policy: Policy, priced: ModelSpec, trained: ModelSpec | None = None) -> AdapterForm:
    """The policy's adapter form, which must fit the priced and the trained model."""
    where = f"policy {import_path(type(policy))}"
    try:
        form = policy.form(priced)
        for model in (priced, trained):
            if model is not None:
                where = f"policy {import_path(type(policy))}, model {model.name}"
                check_form(form, model)
        where = f"policy {import_path(type(policy))}"
        check_combination(form, policy.task, policy.protocol)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        # A policy's own code may raise anything; what it says of its parameters is a ValueError.
        reason = str(error) if isinstance(error, ValueError) else f"form() raised {type(error).__name__}: {error}"
        raise ConfigError(f"{where}: {reason}") from error
    return form


def resolved_settings(config: Config) -> dict[str, Any]:
    """All settings as plain data, with every parameter of the policy.

    Raises:
        ConfigError: there is no such policy.
    """
    policy = config.policy
    return {
        **config.model_dump(),
        "policy": {"path": policy.path, **resolved_parameters(policy.path, policy.parameters)},
    }


def input_digests(config: Config, cluster: ClusterSpec) -> dict[str, Any]:
    """Digests of the files that say what is emulated; ``run.json`` has them under these keys."""
    return {
        "cluster_sha256": cluster.sha256,
        "link_sha256": {entry.link.name: entry.link.sha256 for entry in cluster.entries},
        **({"system_sha256": system.sha256} if (system := system_of(config)) else {}),
        **({"swap_sha256": swap.sha256} if (swap := cluster.entries[0].profile.swap) else {}),
        "availability_trace_sha256": trace_sha256(config.testbed.availability),
        "profile_sha256": {entry.profile.name: entry.profile.sha256 for entry in cluster.entries},
    }
