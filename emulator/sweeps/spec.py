"""Reads a sweep file: a base configuration, axes whose values are combined, and listed cases.

Only what a sweep file has of its own is checked here; settings are checked where runs are made of them.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_profiles.text_files import user_path
from emulator.config import SWEEP_KEYS, Config, check_key, read_toml
from emulator.errors import ConfigError, did_you_mean

KEYS = ("name", "base", "axes", "cases")
BASE_FILE = "file"
"""The one key of ``[base]`` that is no setting: a configuration file that the others override."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
"""Names begin with a letter, so that no reader of a dataset takes them for numbers or dates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One listed case: its settings by key path, and the name that its runs shall have."""

    name: str | None
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSpec:
    """A sweep file as it is written.

    Attributes:
        path: the file.
        name: of the sweep; the file's own where it does not say.
        base_file: the configuration that all runs begin with, and
        base: the table of settings that override it.
        axes: by key path the values that the setting takes, in the order of the file.
        cases: each is combined with the whole grid of the axes.
    """

    path: Path
    name: str
    base_file: Path | None
    base: Mapping[str, Any]
    axes: Mapping[str, Sequence[Any]]
    cases: Sequence[Case]


def read_spec(path: Path) -> SweepSpec:
    """Read a sweep file.

    Raises:
        ConfigError: it cannot be read, a key of it is unknown, a number is nan or inf, an axis has no values, or there
            is nothing to vary.
    """
    table = read_toml(path, "sweep file")
    for key in table:
        if key in Config.model_fields and not SWEEP_KEYS & table.keys():
            raise ConfigError(f"{path}: this is the configuration of one run, not a sweep file; use: jetbed run {path}")
        if key not in KEYS:
            hint = did_you_mean(key, KEYS) or ";"
            raise ConfigError(f"{path}: {key} is not a key of a sweep file{hint} it takes: {', '.join(KEYS)}")
    _check_finite(table, path)
    base_file, base = _base(table.get("base", {}), path)
    axes, cases = _axes(table.get("axes", {}), path), _cases(table.get("cases", []), path)
    if not axes and not cases:
        raise ConfigError(f"{path}: there is nothing to vary; give [axes] or [[cases]], or use jetbed run for one run")
    for case in cases:
        for key in case.values:
            if key in axes:
                raise ConfigError(f"{path}: {key} is both an axis and a key of a case; every run can have it from one")
    return SweepSpec(
        path=path, name=_name(table.get("name", _stem(path)), path), base_file=base_file, base=base, axes=axes,
        cases=cases
    )  # fmt: skip


def _check_finite(value: Any, path: Path, key: str = "") -> None:
    """No setting is infinite or not a number, and no file of a run could hold it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path}: {key} must be made of finite numbers, got {value!r}")
    if isinstance(value, list):
        for inner in value:
            _check_finite(inner, path, key)
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_finite(inner, path, f"{key}.{name}" if key else name)


def _stem(path: Path) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.")
    return plain if NAME.fullmatch(plain) else f"sweep-{plain}".rstrip("-")


def _name(name: Any, path: Path) -> str:
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ConfigError(
            f"{path}: a name is made of letters, digits, dots, dashes and underscores and begins with a letter, "
            f"got {name!r}"
        )
    return name


def _base(base: Any, path: Path) -> tuple[Path | None, Mapping[str, Any]]:
    if isinstance(base, str) and base:
        return user_path(base, path.parent), {}
    if not isinstance(base, dict):
        raise ConfigError(f"{path}: base is the path of a configuration file or a table of settings, got {base!r}")
    table = dict(base)
    file = table.pop(BASE_FILE, None)
    if file is not None and not (isinstance(file, str) and file):
        raise ConfigError(f"{path}: base.{BASE_FILE} is the path of a configuration file, got {file!r}")
    return user_path(file, path.parent) if file is not None else None, table


def _axes(table: Any, path: Path) -> Mapping[str, Sequence[Any]]:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: axes is a table of settings, each with a list of values, got {table!r}")
    axes: dict[str, Sequence[Any]] = {}
    for key, values in _leaves(table):
        check_key(key, f"{path}, [axes]")
        if not isinstance(values, list):
            raise ConfigError(f"{path}: axes.{key} is a list of the values that {key} takes, got {values!r}")
        if not values:
            raise ConfigError(f"{path}: axes.{key} has no values, so that the sweep has no runs; give one or more")
        axes[key] = tuple(values)
    return axes


def _cases(tables: Any, path: Path) -> Sequence[Case]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{path}: cases are tables of settings under [[cases]], got {tables!r}")
    cases: list[Case] = []
    for number, table in enumerate(tables, start=1):
        settings = dict(table)
        name = settings.pop("name", None)
        # A policy stays whole, since its parameters belong to it.
        policy = {"policy": settings.pop("policy")} if "policy" in settings else {}
        values = {**policy, **dict(_leaves(settings))}
        for key in values:
            check_key(key, f"{path}, case {number}")
        if not values and name is None:
            raise ConfigError(f"{path}: case {number} of [[cases]] is empty; give it a setting or a name")
        if name is not None and name in [case.name for case in cases]:
            raise ConfigError(f"{path}: two of [[cases]] have the same name; give each its own, got {name!r}")
        cases.append(Case(name=None if name is None else _name(name, path), values=values))
    return cases


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no table, by its key path; ``a.b = 1`` and ``"a.b" = 1`` are the same."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
