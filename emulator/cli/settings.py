"""All settings of a run as a TOML file that explains itself."""

import tomli_w
from pydantic import BaseModel

from emulator.config import Config


def as_toml(config: Config) -> str:
    """``config`` as TOML, each key under a comment that says what it means; it can be given to ``jetbed run`` again."""
    top = [name for name, value in config if not isinstance(value, BaseModel)]
    lines = _keys(config, top)
    _tables(config, "", lines)
    return "\n".join(lines).strip() + "\n"


def _tables(section: BaseModel, path: str, lines: list[str]) -> None:
    for name, value in section:
        if isinstance(value, BaseModel):
            table = f"{path}{name}"
            keys = [key for key, inner in value if not isinstance(inner, BaseModel)]
            lines += ["", f"[{table}]", *_keys(value, keys)]
            _tables(value, f"{table}.", lines)


def _keys(section: BaseModel, names: list[str]) -> list[str]:
    lines: list[str] = []
    for name in names:
        field = type(section).model_fields.get(name)
        if field is not None and field.description:
            lines.append(f"# {' '.join(field.description.split())}")
        lines.append(tomli_w.dumps({name: getattr(section, name)}).rstrip())
    return lines
