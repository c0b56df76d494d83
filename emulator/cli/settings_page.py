"""All settings of a run as tables for ``docs/settings.md``: what ``jetbed run --print-config`` says, to be read."""

from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w

from emulator.config import Config

UNITS = {"_tflop_per_s": "10¹² FLOP/s", "_bytes": "byte", "_s": "s", "seq_len": "token"}
"""By the end of a key's name; a number whose name ends in none of them is plain."""

TYPES = {"boolean": "bool", "integer": "int", "number": "float", "string": "str", "array": "list", "object": "table"}
"""Names of types in a JSON schema, and in Python."""

Schema = Mapping[str, Any]


def settings_tables() -> str:
    """A heading and a table for each table of the configuration, the top level first."""
    schema = Config.model_json_schema()
    return "\n".join(_table(path, section) for path, section in _sections(schema, schema, ""))


def setting_keys() -> list[str]:
    """Every setting by its full key, such as ``data.partition.alpha``; a policy's parameters are not among them."""
    schema = Config.model_json_schema()
    sections = list(_sections(schema, schema, ""))
    return [f"{path}.{key}".lstrip(".") for path, section in sections for key in _own(section)]


def _sections(schema: Schema, section: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """The tables within ``section``, itself first, each with its path."""
    yield path, section
    for name, entry in section["properties"].items():
        if "$ref" in entry:
            inner = schema["$defs"][entry["$ref"].rpartition("/")[2]]
            yield from _sections(schema, inner, f"{path}.{name}".lstrip("."))


def _own(section: Schema) -> dict[str, Schema]:
    """The settings of a table that are no tables themselves."""
    return {name: entry for name, entry in section["properties"].items() if "$ref" not in entry}


def _table(path: str, section: Schema) -> str:
    lines = [f"## `[{path}]`" if path else "## The top level", "", _one_line(section["description"]), ""]
    lines += ["| key | type | default | unit | meaning |", "|---|---|---|---|---|"]
    for name, entry in _own(section).items():
        meaning = _one_line(entry["description"]).replace("|", "\\|")
        cells = [f"`{name}`", _type(entry), _default(entry), _unit(name, entry), meaning]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _type(entry: Schema) -> str:
    """The type with the values that it may have."""
    if "anyOf" in entry:
        return " or ".join(_type(one) for one in entry["anyOf"] if one.get("type") != "null")
    if "enum" in entry:
        return " or ".join(f"`{tomli_w.dumps({'x': value})[4:].strip()}`" for value in entry["enum"])
    signs = {"exclusiveMinimum": "> ", "minimum": "≥ ", "exclusiveMaximum": "< ", "maximum": "≤ "}
    limits = [f"{sign}{entry[key]:,}" for key, sign in signs.items() if key in entry and entry[key] != 2**31 - 1]
    return ", ".join([TYPES[entry["type"]], *limits])


def _default(entry: Schema) -> str:
    """As one writes it in TOML, which has no word for None."""
    if entry.get("default") is None:
        return "none"
    text = tomli_w.dumps({"x": entry["default"]})[4:].strip()
    return f"`{text}`"


def _unit(name: str, entry: Schema) -> str:
    kinds = {one.get("type") for one in entry.get("anyOf", [entry])}
    if not kinds & {"integer", "number"} or "string" in kinds:
        return "–"
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "1")
