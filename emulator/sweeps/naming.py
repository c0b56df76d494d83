"""Names of runs, and what their values are called in tables: short, stable, and the same for the same settings."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

MOST_CHARACTERS = 80
"""A longer name is cut, and ends with a digest of all that it stands for."""
DIGEST_CHARACTERS = 8

NONE = "none"
"""Of a setting that is not given, as a sweep file says it."""

Label = bool | int | float | str


def label_of(value: Any) -> Label:
    """A value in a table: a number or a text as it is, a table of settings as ``first(other=1)`` or ``a=1,b=2``."""
    if value is None:
        return NONE
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        settings = {key: inner for key, inner in value.items() if key != "path"}
        listed = ",".join(f"{key}={label_of(inner)}" for key, inner in settings.items())
        if "path" not in value:
            return listed or "base"
        return f"{value['path']}({listed})" if listed else str(value["path"])
    return json.dumps(value, default=str)


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """For each key path its last part, with as many parts before it as tell it from the others."""
    short = dict.fromkeys(keys, 1)
    while True:
        names = {key: "-".join(key.split(".")[-n_parts:]) for key, n_parts in short.items()}
        counts = Counter(names.values())
        unclear = [key for key in keys if counts[names[key]] > 1 and short[key] < len(key.split("."))]
        if not unclear:
            return names
        for key in unclear:
            short[key] += 1


def run_names(settings: Sequence[tuple[str | None, Mapping[str, Any]]]) -> list[str]:
    """A name for each run, given the name of its case and its other values by key path.

    A name holds letters, digits and ``,._-`` only, and begins with a letter, so that every reader of a partitioned
    dataset takes it as text. Where two would be the same, each gets a digest of its values.
    """
    short = short_keys(list(dict.fromkeys(key for _, values in settings for key in values)))
    names = [_name(case, values, short) for case, values in settings]
    counts = Counter(names)
    return [
        f"{name[: MOST_CHARACTERS - DIGEST_CHARACTERS - 1]}-{_digest(case, values)}"
        if counts[name] > 1 or len(name) > MOST_CHARACTERS
        else name
        for name, (case, values) in zip(names, settings, strict=True)
    ]


def _name(case: str | None, values: Mapping[str, Any], short: Mapping[str, str]) -> str:
    parts = [case] if case else []
    parts += [f"{short[key]}-{_plain(value)}" for key, value in values.items()]
    return ",".join(parts)


def _plain(value: Any) -> str:
    """A value as part of a name; of a path to a file, only the file's name."""
    if isinstance(value, Mapping):
        parts = [_plain(inner) if key == "path" else f"{key}-{_plain(inner)}" for key, inner in value.items()]
        return "-".join(parts) or "base"
    text = str(value)
    if isinstance(value, str) and text.endswith((".toml", ".csv", ".parquet", ".json")):
        text = re.split(r"[/\\]", text)[-1].rpartition(".")[0]
    return re.sub(r"[^A-Za-z0-9._]+", "-", text.replace("-", "minus", 1) if _is_negative(value) else text).strip("-")


def _is_negative(value: Any) -> bool:
    return isinstance(value, int | float) and value < 0


def _digest(case: str | None, values: Mapping[str, Any]) -> str:
    text = json.dumps([case, values], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_CHARACTERS // 2).hexdigest()
