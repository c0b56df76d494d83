"""Reading TOML tables so that every mistake in them is reported with the file, the key and what is allowed."""

import difflib
import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import cast

from device_profiles.provenance import PROVENANCE_KINDS, Provenance, ProvenanceKind
from device_profiles.text_files import MOST_TEXT_BYTES, FileError, decoded, parsed_toml, read_bytes

LARGEST = 1e30
"""The largest number in a file; in any unit it stays far from where floats end."""
MOST_COUNTED = 2**31 - 1


class ProfileError(ValueError):
    """A profile, cluster or link cannot be used. The message says what was given, where, and what is allowed."""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(given, list(allowed), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def read_toml(path: Path) -> tuple["Table", str]:
    """The table of a whole file, and the SHA-256 digest of its bytes in hexadecimal.

    Raises:
        ProfileError: the file cannot be read or is not TOML.
    """
    try:
        content = read_bytes(path, MOST_TEXT_BYTES)
        values = parsed_toml(decoded(content))
    except FileError as error:
        raise ProfileError(f"{path.name}: {error}") from None
    return Table(path.name, values), hashlib.sha256(content).hexdigest()


class Table:
    """A TOML table whose values are taken by key and type; :meth:`close` then refuses the keys that nobody took.

    ``file`` names the file in messages and ``where`` the table in it (empty for the whole file).
    """

    def __init__(self, file: str, values: Mapping[str, object], where: str = "") -> None:
        self._file = file
        self._values = values
        self._where = where
        self._taken: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._values

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._values)

    def error(self, key: str, sentence: str) -> ProfileError:
        """The error about a key of this table, to be raised by the caller."""
        path = f"{self._where}.{key}" if self._where and key else self._where or key
        return ProfileError(f"{self._file}: {path} {sentence}")

    def text(self, key: str, allowed: Collection[str] = (), default: str | None = None) -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"must be a text, got {value!r}")
        if allowed and value not in allowed:
            raise self.error(key, f"must be one of {', '.join(allowed)}{did_you_mean(value, allowed)}, got {value!r}")
        return value

    def number(self, key: str, *, positive: bool = False, most: float = LARGEST) -> float:
        """A number of at least 0, or above 0, and at most ``most``."""
        value = self._take(key, None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, f"must be a number, got {value!r}")
        if not 0 <= value <= most or (positive and value == 0):
            bounds = "above 0" if positive else "of at least 0"
            limit = f" and at most {most}" if most < LARGEST or value > most else ""
            raise self.error(key, f"must be a number {bounds}{limit}, got {value!r}")
        return float(value)

    def optional_number(self, key: str) -> float | None:
        return self.number(key) if key in self else None

    def integer(self, key: str, least: int = 0) -> int:
        value = self._take(key, None)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST_COUNTED:
            raise self.error(
                key, f"must be a whole number of at least {least} and at most {MOST_COUNTED}, got {value!r}"
            )
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, None)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise self.error(key, f"must be a list of texts with at least one entry, got {value!r}")
        return tuple(value)

    def bounds(self, key: str) -> tuple[float, float]:
        """A list of two numbers, the least and the most."""
        value = self._take(key, None)
        is_pair = isinstance(value, list) and len(value) == 2
        numbers = [n for n in value if isinstance(n, int | float) and not isinstance(n, bool)] if is_pair else []  # type: ignore[attr-defined]
        if len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1] <= LARGEST:
            raise self.error(
                key, f"must be a list of two numbers, the least and the most, up to {LARGEST:g}, got {value!r}"
            )
        return float(numbers[0]), float(numbers[1])

    def table(self, key: str) -> "Table":
        value = self._take(key, None)
        if not isinstance(value, dict):
            raise self.error(key, f"must be a table, got {value!r}")
        return Table(self._file, value, f"{self._where}.{key}" if self._where else key)

    def tables(self, key: str) -> tuple["Table", ...]:
        value = self._take(key, None)
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise self.error(key, f"must be a list of tables, written [[{key}]], with at least one entry")
        return tuple(Table(self._file, item, f"{key}[{index}]") for index, item in enumerate(value))

    def close(self) -> None:
        """Refuse keys that were not taken.

        Raises:
            ProfileError: there is one.
        """
        for key in self._values:
            if key not in self._taken:
                allowed = sorted(set(self._taken))
                hint = did_you_mean(key, allowed)
                raise self.error(key, f"is not a key here{hint}; allowed are {', '.join(allowed)}")

    def allow(self, *keys: str) -> None:
        """Count keys as taken, so that messages offer them."""
        self._taken.extend(keys)

    def _take(self, key: str, default: object) -> object:
        self.allow(key)
        value = self._values.get(key, default)
        if value is None:
            raise self.error(key, "is missing")
        return value


def provenance_table(root: Table) -> Table:
    """A file's table ``[provenance]``, empty where it has none."""
    return root.table("provenance") if "provenance" in root else Table("", {}, "provenance")


def read_provenance(table: Table, keys: Collection[str], groups: Collection[str] = ()) -> dict[str, Provenance]:
    """The table ``[provenance]`` of a file: one table for a key, or for all keys that it lists under ``covers``.

    ``groups`` are names (of power modes) under which a table may hold provenance of its own; those come back as
    ``group.key``.

    Raises:
        ProfileError: a table names no known key, is incomplete, or covers a key twice.
    """
    found: dict[str, Provenance] = {}
    for name in table.keys:
        entry = table.table(name)
        if name in groups:
            found |= {f"{name}.{key}": origin for key, origin in read_provenance(entry, keys).items()}
            continue
        covered = entry.texts("covers") if "covers" in entry else (name,)
        for key in covered:
            if key not in keys:
                allowed = ", ".join(keys)
                raise entry.error("", f"is about no figure of this file{did_you_mean(key, keys)}; it may be about "
                                      f"{allowed}, got {key!r}")  # fmt: skip
            if key in found:
                raise entry.error("", f"repeats the provenance of {key!r}")
        entry.allow("covers")
        origin = Provenance(
            kind=cast(ProvenanceKind, entry.text("kind", PROVENANCE_KINDS)),
            source=entry.text("source"),
            date=entry.text("date", default=""),
            note=entry.text("note", default=""),
            uncertainty=entry.text("uncertainty", default=""),
        )
        entry.close()
        found |= dict.fromkeys(covered, origin)
    return found


def require_provenance(table: Table, keys: Iterable[str], found: Mapping[str, Provenance]) -> None:
    """Refuse a figure without provenance.

    Raises:
        ProfileError: the first of ``keys`` that ``found`` lacks.
    """
    for key in keys:
        if key not in found:
            kinds = ", ".join(PROVENANCE_KINDS)
            raise table.error(
                key, f"has no provenance; add a table [provenance.{key}] with kind (one of {kinds}) and source"
            )
