"""Configurations from files and overrides.

A configuration is a TOML file, overridden key by key from the command line. What is wrong in it is reported as one
:class:`~emulator.errors.ConfigError` that names the file or option, the key, what is allowed and what was given.
"""

import copy
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from device_profiles.text_files import parsed_toml, read_text
from emulator.config.plugins import PolicyConfig
from emulator.config.run import Config
from emulator.errors import ConfigError, did_you_mean

SWEEP_KEYS = {"axes", "cases", "base"}
"""Keys that a sweep file has and a configuration has not."""


def load_config(
    path: Path | None, overrides: Sequence[tuple[str, Any]] = (), options: Mapping[str, str] = MappingProxyType({})
) -> Config:
    """The configuration in the TOML file ``path`` (None: all defaults) with ``overrides``, pairs of key path and value.

    Of overrides that an option of the command line made, ``options`` has its name by key path, for messages.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is not allowed.
    """
    table = read_toml(path) if path else {}
    if path and (SWEEP_KEYS & table.keys()):
        raise ConfigError(f"{path}: this is a sweep file, not the configuration of one run; use: jetbed sweep {path}")
    return config_of(table, overrides, str(path) if path else "--set", options=options)


def config_of(
    table: Mapping[str, Any],
    overrides: Sequence[tuple[str, Any]],
    origin: str,
    overrides_origin: str = "--set",
    options: Mapping[str, str] = MappingProxyType({}),
) -> Config:
    """The configuration in ``table`` with ``overrides``; messages say ``origin`` of the one, ``overrides_origin`` of
    the others, or their ``options`` by key path.

    Raises:
        ConfigError: a key is unknown, or a value is not allowed.
    """
    settings = overridden(table, overrides, overrides_origin)
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(
            _explain(error, origin, {key: options.get(key, overrides_origin) for key, _ in overrides})
        ) from None


def overridden(table: Mapping[str, Any], overrides: Sequence[tuple[str, Any]], origin: str) -> dict[str, Any]:
    """A copy of ``table`` with ``overrides``; another policy than the table's has none of its parameters.

    Raises:
        ConfigError: an override is of a part of a value.
    """
    settings = copy.deepcopy(dict(table))
    # The policy comes first, since the parameters given beside it are its own.
    for key, value in sorted(overrides, key=lambda override: override[0] != "policy.path"):
        if key == "policy.path" and _policy_path(settings) != value:
            settings["policy"] = {}
        _put(settings, key, value, origin)
    return settings


def check_key(key: str, where: str) -> None:
    """Check that ``key`` is the path of a setting, of a table of settings, or of a parameter of the policy.

    Raises:
        ConfigError: it is not.
    """
    location = key.split(".")
    if location[0] == "policy" and all(location):
        return
    for depth, part in enumerate(location):
        if part not in _settings_of(location[:depth]):
            raise ConfigError(_not_a_setting(location[: depth + 1], where))


def parse_setting(text: str) -> tuple[str, Any]:
    """Split ``key.path=value``; the value is read as TOML, and as a plain string where it is not valid TOML."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key or not all(key.split(".")):
        raise ConfigError(f"--set takes key.path=value, for example training.local_steps=8, got {text!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")
        repr(parsed)  # a message must be able to say the value
    except tomllib.TOMLDecodeError:
        return key, value
    except RecursionError:
        raise ConfigError(f"--set {key}: the value is nested too deeply to be read") from None
    except ValueError:
        raise ConfigError(
            f"--set {key}: a number has too many digits to be read, got {len(value)} characters"
        ) from None
    return key, parsed["value"] if len(parsed) == 1 else value


def read_toml(path: Path, what: str = "configuration file") -> dict[str, Any]:
    """The content of the TOML file ``path``; messages call it ``what``.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        if not path.exists():
            raise ConfigError(f"there is no {what} {str(path)!r}")
        return parsed_toml(read_text(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _policy_path(table: Mapping[str, Any]) -> Any:
    policy = table.get("policy")
    return policy.get("path", PolicyConfig().path) if isinstance(policy, dict) else None


def _put(table: dict[str, Any], key: str, value: Any, origin: str) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{origin} {key}: {parent} is a value, not a table of settings")
    table[last] = value


def _explain(error: ValidationError, origin: str, overrides: Mapping[str, str]) -> str:
    """The first thing that is wrong, in one sentence; ``overrides`` say by key path who gave them."""
    details = error.errors(include_url=False)
    detail = details[0]
    location = [str(part) for part in detail["loc"]]
    # Of a setting that takes values of several types, each type has something to say.
    alternatives = [each["msg"] for each in details if each["loc"][:-1] == detail["loc"][:-1]]
    if len(location) > 1 and location[0] != "policy" and not _settings_of(location[:-1]):
        location.pop()
        detail["msg"] = " or ".join([alternatives[0], *(text[:1].lower() + text[1:] for text in alternatives[1:])])
    key = ".".join(location)
    where = next((who for given, who in overrides.items() if key == given or key.startswith(f"{given}.")), origin)
    if detail["type"] == "extra_forbidden":
        return _not_a_setting(location, where)
    if detail["type"] == "value_error":
        return f"{where}: {detail['ctx']['error']}"
    if detail["type"] in ("model_type", "model_attributes_type"):
        settings = ", ".join(_settings_of(location))
        return f"{where}: {key} is a table of settings ({settings}), got {_given(detail['input'])}"
    message = detail["msg"][:1].lower() + detail["msg"][1:]
    # An option says by itself which setting it is.
    what = where if where.startswith("--") and where != "--set" else f"{where}: {key}"
    return f"{what}: {message}, got {_given(detail['input'])}"


def _not_a_setting(location: Sequence[str], where: str) -> str:
    allowed = _settings_of(location[:-1])
    section = f"[{'.'.join(location[:-1])}]" if location[:-1] else "the top level"
    elsewhere = [path for path in _paths() if path.rpartition(".")[2] == location[-1]]
    hint = f"; did you mean {' or '.join(elsewhere)}?" if elsewhere else did_you_mean(location[-1], allowed)
    return f"{where}: {'.'.join(location)} is not a setting{hint or ';'} {section} takes: {', '.join(allowed)}"


def _given(value: Any) -> str:
    return repr(dict(value) if isinstance(value, Mapping) else value)


def _paths(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """The key paths of all settings that are no tables."""
    for name, given in section.model_fields.items():
        if isinstance(given.annotation, type) and issubclass(given.annotation, BaseModel):
            yield from _paths(given.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _settings_of(location: Sequence[str]) -> list[str]:
    section: type[BaseModel] = Config
    for part in location:
        annotation = section.model_fields[part].annotation if part in section.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        section = annotation
    return sorted(section.model_fields)
