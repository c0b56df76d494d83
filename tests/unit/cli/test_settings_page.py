import re
import tomllib
from collections.abc import Iterator
from typing import Any

from emulator.cli.settings_page import setting_keys, settings_tables
from emulator.config import Config, check_key

ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \| (.+) \|$")


def flat(table: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def rows() -> dict[str, tuple[str, ...]]:
    """By the full key: type, default, unit and meaning."""
    found, section = {}, ""
    for line in settings_tables().splitlines():
        if heading := re.match(r"## (?:`\[(.+)\]`|The top level)", line):
            section = heading[1] or ""
        elif row := ROW.match(line):
            found[f"{section}.{row[1]}".lstrip(".")] = row.groups()[1:]
    return found


def test_every_setting_has_a_row_with_its_default() -> None:
    defaults = dict(flat(Config().model_dump()))

    assert set(rows()) == set(defaults) == set(setting_keys())
    for key, (_, default, _, _) in rows().items():
        value = None if default == "none" else tomllib.loads(f"x = {default.strip('`')}")["x"]
        # What is a tuple in a configuration is a list in its file.
        assert (tuple(value) if isinstance(value, list) else value) == defaults[key], key


def test_every_key_is_one_that_the_command_line_takes() -> None:
    for key in setting_keys():
        check_key(key, "--set")


def test_units_and_limits_are_told() -> None:
    kind, _, unit, meaning = rows()["training.prefix_cache_bytes"]
    assert (kind, unit) == ("int, ≥ 0", "byte")
    assert meaning.startswith("Memory of a host")
    assert rows()["testbed.availability.mean_on_s"][2] == "s"
    assert rows()["testbed.server_tflop_per_s"][2] == "10¹² FLOP/s"
    assert rows()["data.test_fraction"][:3] == ("float, > 0, < 1", "`0.1`", "1")
    assert rows()["testbed.precision"][0] == '`"fp32"` or `"amp"`'


def test_every_setting_says_what_it_means() -> None:
    assert [key for key, row in rows().items() if not row[3].endswith(".")] == []
