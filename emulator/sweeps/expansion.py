"""Makes runs of a sweep file: every case with every combination of the axes' values, each a whole configuration."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from device_profiles.records import ClusterSpec
from emulator.config import Config, config_of, overridden, read_toml
from emulator.errors import ConfigError, UserError
from emulator.running.compose import check_settings
from emulator.running.resolve import cluster_of, resolved_settings
from emulator.sweeps.naming import Label, label_of, run_names
from emulator.sweeps.spec import Case, SweepSpec

POLICY, SEED = "policy", "seed"

Overrides = Sequence[tuple[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """A run of a sweep.

    Attributes:
        name: unique in the sweep; its folder is ``run=<name>``.
        labels: by column of the index what distinguishes it: ``policy``, ``seed``, and every axis.
        values: by key path what the sweep file gives it.
        config: all its settings.
    """

    name: str
    labels: Mapping[str, Label]
    values: Mapping[str, Any]
    config: Config


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """A sweep whose runs are known. ``axes`` are the key paths that vary, those of cases before those of axes."""

    name: str
    path: Path
    base: Config
    axes: tuple[str, ...]
    spec: SweepSpec
    runs: tuple[PlannedRun, ...]


def expand(spec: SweepSpec, overrides: Overrides = (), options: Mapping[str, str] = MappingProxyType({})) -> Sweep:
    """All runs of ``spec``; ``overrides`` come from the command line and change the base.

    ``options`` has by key path the names of options that made them.

    Raises:
        ConfigError: a setting is unknown or has a value that is not allowed (the message names the run), two runs are
            the same, or an override is of what the sweep varies.
    """
    table, origin = _base_table(spec), str(spec.base_file or spec.path)
    # One after the other, so that a mistake is reported where it was made.
    config_of(table, (), origin)
    for layer, where in ((_settings(spec.base), f"{spec.path}, [base]"), (overrides, "--set")):
        base = config_of(table, layer, origin, where, options)
        table = overridden(table, layer, where)
    axes = tuple(dict.fromkeys([*(key for case in spec.cases for key in case.values), *spec.axes]))
    for key, _ in overrides:
        if clash := [axis for axis in axes if f"{key}.".startswith(f"{axis}.") or f"{axis}.".startswith(f"{key}.")]:
            raise ConfigError(
                f"{options.get(key, f'--set {key}')}: the sweep varies {clash[0]}; change it in {spec.path}, or leave "
                "it out"
            )
    given = [
        (case, dict(zip(spec.axes, values, strict=True)))
        for case in spec.cases or [Case(name=None, values={})]
        for values in itertools.product(*spec.axes.values())
    ]
    # A case's own name stands for all that it sets.
    names = run_names([(case.name, of_axes if case.name else {**case.values, **of_axes}) for case, of_axes in given])
    runs: list[PlannedRun] = []
    resolved: dict[str, str] = {}
    for name, (case, of_axes) in zip(names, given, strict=True):
        values = {**case.values, **of_axes}
        settings = [setting for key in sorted(values, key=_depth) for setting in _as_settings(key, values[key])]
        where = f"{spec.path}: run {name}"
        config = config_of(table, settings, where, where)
        try:
            all_settings = resolved_settings(config)
        except UserError as error:
            raise ConfigError(f"{where}: {error}") from error
        as_text = json.dumps(all_settings, sort_keys=True, default=str)
        if as_text in resolved:
            raise ConfigError(
                f"{spec.path}: runs {resolved[as_text]} and {name} have the same settings; remove the value or case "
                "that is repeated"
            )
        resolved[as_text] = name
        labels = _labels(values, all_settings, axes)
        runs.append(PlannedRun(name=name, labels=labels, values=values, config=config))
    return Sweep(name=spec.name, path=spec.path, base=base, axes=axes, spec=spec, runs=tuple(runs))


def _base_table(spec: SweepSpec) -> dict[str, Any]:
    if spec.base_file is None:
        return {}
    try:
        return read_toml(spec.base_file)
    except ConfigError as error:
        raise ConfigError(f"{spec.path}, base: {error}") from None


def check_runs(sweep: Sweep) -> None:
    """Find what is wrong with any run before any process is started or model loaded.

    Raises:
        ConfigError: something is; the message names the run.
    """
    checked = set()
    for run in sweep.runs:
        # Seeds were checked with the settings, and nothing else depends on them.
        alike = run.config.model_copy(update={SEED: 0}).model_dump_json()
        if alike in checked:
            continue
        checked.add(alike)
        try:
            check_settings(run.config)
        except UserError as error:
            raise ConfigError(f"{sweep.path}: run {run.name}: {error}") from error


class Clusters:
    """The clusters of configurations, each read once: a sweep has many runs on few of them."""

    def __init__(self) -> None:
        self._read: dict[str, ClusterSpec] = {}

    def of(self, config: Config) -> ClusterSpec:
        key = config.testbed.model_dump_json()
        if key not in self._read:
            self._read[key] = cluster_of(config)
        return self._read[key]


def _depth(key: str) -> int:
    """Tables of settings come before single ones, which may change a part of them."""
    return key.count(".")


def _settings(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """A table of settings as pairs of key path and value."""
    settings = []
    for key, value in table.items():
        settings += _as_settings(f"{prefix}{key}", value)
    return settings


def _as_settings(key: str, value: Any) -> list[tuple[str, Any]]:
    """What giving ``value`` to ``key`` sets: a table sets its keys and leaves the others, a policy may be its path."""
    if key == POLICY and isinstance(value, str):
        return [(f"{POLICY}.path", value)]
    # A parameter of a policy may itself be a table; it is given whole.
    if isinstance(value, Mapping) and not key.startswith(f"{POLICY}."):
        return _settings(value, f"{key}.")
    return [(key, value)]


def _labels(values: Mapping[str, Any], settings: Mapping[str, Any], axes: Sequence[str]) -> dict[str, Label]:
    """The index's columns of a run with all its ``settings``. What a case leaves to the base has the base's value."""
    policy = values.get(POLICY, {})
    given = policy if isinstance(policy, Mapping) else {}
    labels: dict[str, Label] = {
        POLICY: label_of({"path": settings[POLICY]["path"]} | dict(given)),
        SEED: settings[SEED],
    }
    for key in axes:
        if key not in labels:
            labels[key] = label_of(values[key] if key in values else _value_at(key, settings))
    return labels


def _value_at(key: str, settings: Mapping[str, Any]) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = value.get(part, "") if isinstance(value, Mapping) else ""
    return value
