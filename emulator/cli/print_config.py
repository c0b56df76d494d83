"""All settings of a run as a TOML file that explains itself."""

from typing import Any

import tomli_w
from pydantic import BaseModel

from emulator.config import NONE, Config
from emulator.policy.catalog import parameter_help, policy_class, resolved_parameters


def as_toml(config: Config) -> str:
    """``config`` as TOML, each key under a comment that says what it means; it can be given to ``jetbed run`` again."""
    top = [name for name, value in config if not isinstance(value, BaseModel)]
    # Observers may become tables, after which no plain key of the top level can stand.
    top.sort(key=lambda name: name == "observers")
    lines = _keys(config, top)
    _tables(config, "", lines)
    lines += _policy_parameters(config)
    return "\n".join(lines).strip() + "\n"


def _tables(section: BaseModel, path: str, lines: list[str]) -> None:
    for name, value in section:
        if isinstance(value, BaseModel):
            table = f"{path}{name}"
            keys = [key for key in type(value).model_fields if not isinstance(getattr(value, key), BaseModel)]
            lines += ["", f"[{table}]", *_keys(value, keys)]
            _tables(value, f"{table}.", lines)


def _keys(section: BaseModel, names: list[str]) -> list[str]:
    lines: list[str] = []
    for name in names:
        field = type(section).model_fields.get(name)
        if field is not None and field.description:
            lines.append(f"# {' '.join(field.description.split())}")
        lines.append(_line(name, section.model_dump(include={name})[name]))
    return lines


def _policy_parameters(config: Config) -> list[str]:
    """The parameters of the configured policy, which close the last table."""
    meanings = parameter_help(policy_class(config.policy.path))
    lines: list[str] = []
    for name, value in resolved_parameters(config.policy.path, config.policy.parameters).items():
        lines += [f"# {meanings[name]}"] if name in meanings else []
        try:
            lines.append(_line(name, value))
        except TypeError:  # a default that is an object
            lines.append(f"# {name} is {' '.join(repr(value).split())}, which TOML cannot say")
    return lines


def _line(name: str, value: Any) -> str:
    return tomli_w.dumps({name: NONE if value is None else value}).rstrip()
