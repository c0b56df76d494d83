"""``jetbed import``: recordings of other projects become trace files that a run replays."""

from pathlib import Path

from device_profiles.text_files import FileError
from emulator.errors import ConfigError
from emulator.importing.kinds import IMPORT_KINDS, ImportOptions
from emulator.importing.rates import UNITS
from emulator.importing.recording import Columns
from emulator.storage.files import check_writable, write_text
from emulator.storage.places import Place


def import_recording(
    kind: str,
    path: Path,
    out: Place,
    *,
    window_s: float | None,
    unit: str | None,
    time_column: str | None,
    rate_column: str | None,
    only: str | None,
) -> None:
    """Write the trace that the recording at ``path`` comes to, and say what it is and which rules were needed.

    Raises:
        ConfigError: the kind is unknown, an option is wrong or not for it, or the recording is no such one.
        UserError: the trace cannot be written.
    """
    if kind not in IMPORT_KINDS:
        raise ConfigError(f"KIND must be one of {', '.join(IMPORT_KINDS)}, got {kind!r}")
    given = {
        "window_s": window_s,
        "unit": unit,
        "time_column": time_column,
        "rate_column": rate_column,
        "only": only,
    }
    for name, value in given.items():
        if value is not None and name not in IMPORT_KINDS[kind].options:
            taken = ", ".join(map(_option, IMPORT_KINDS[kind].options)) or "none"
            raise ConfigError(f"{_option(name)} is not for {kind!r}, whose options are: {taken}")
    if window_s is not None and not 1e-3 <= window_s <= 1e6:
        raise ConfigError(f"--window-s must be 0.001 to 1,000,000 seconds, got {window_s!r}")
    if unit is not None and unit not in UNITS:
        raise ConfigError(f"--unit must be one of {', '.join(UNITS)} (b is a bit, B a byte), got {unit!r}")
    if isinstance(out, Path) and out.exists() and path.exists() and out.samefile(path):
        raise ConfigError(f"--out must not be the recording itself, got {str(out)!r}")
    check_writable(out)
    columns = Columns(time=time_column, rate=rate_column, only=_condition(only))
    try:
        imported = IMPORT_KINDS[kind].read(path, ImportOptions(window_s=window_s, unit=unit, columns=columns))
    except FileError as error:
        raise ConfigError(f"{str(path)!r}: {error}") from None
    write_text(out, imported.lines, "the trace")
    print(f"{out}: {imported.holds}")
    for note in imported.notes:
        print(f"  {note}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _condition(only: str | None) -> tuple[str, str] | None:
    if only is None:
        return None
    name, equals, value = only.partition("=")
    if not (name and equals):
        raise ConfigError(f"--only must be COLUMN=VALUE, such as run_num=3, got {only!r}")
    return name, value
