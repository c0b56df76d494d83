"""Data sets of the Hugging Face hub, part by part."""

import re
from collections.abc import Sequence
from typing import Any

from emulator.errors import DataError
from emulator.learning.data.reading import SUFFIXES
from emulator.learning.data.tables import Column, TextTable, missing_column
from emulator.shapes.hub import asked, hub_name


def read_hub(source: str, configuration: str | None, wanted: Sequence[Column]) -> dict[str, TextTable]:
    """The parts of a data set on the hub that matter: ``train``, and ``test`` and ``validation`` where there are.

    Args:
        source: its id.
        configuration: which of its configurations; None where it has one.
        wanted: the names of columns.

    Raises:
        DataError: it cannot be had, has several configurations, no part ``train``, or no such column.
    """
    with asked(f"the data set {source!r}") as unreached:
        import datasets

        try:
            parts = datasets.load_dataset(source, configuration)
        except Exception as error:  # the hub client has no common base class for "not there" and "not reachable"
            raise _refused(source, configuration, str(error) or type(error).__name__, unreached) from error
    if "train" not in parts:
        raise DataError(f"data.source: {source!r} has no part 'train'; it has: {', '.join(parts)}")
    return {
        name: _table(parts[name], f"data.source: {source!r}", wanted)
        for name in ("train", "test", "validation")
        if name in parts
    }


def _table(part: Any, where: str, wanted: Sequence[Column]) -> TextTable:
    import datasets

    there = tuple(part.column_names)
    values: dict[Column, list[Any]] = {}
    for column in wanted:
        if column not in there:
            raise missing_column(where, column, there)
        cells, feature = list(part[column]), part.features[column]
        if isinstance(feature, datasets.ClassLabel):
            known = dict(enumerate(feature.names))
            cells = [known.get(cell, cell) for cell in cells]
        values[column] = cells
    return TextTable(columns=there, values=values, places=range(1, len(part) + 1), place="row", form="from the hub")


def _refused(source: str, configuration: str | None, reason: str, unreached: str) -> DataError:
    """Why the hub does not give ``source``, from what its client says."""
    if known := re.search(r"(?:available configs|Available)\s*:?\s*\[([^\]]*)\]", reason):
        names = ", ".join(re.findall(r"'([^']*)'", known[1]))
        wrong = f", and {configuration!r} is none" if configuration else ""
        return DataError(
            f"data.source: {source!r} has several configurations{wrong}; set data.configuration to one of: {names}"
        )
    first = reason.strip().splitlines()[0]
    said = f"{unreached} and it is not in the local cache" if unreached else f"{hub_name()} does not give it ({first})"
    return DataError(
        f"data.source: there is no file {source!r}, and {said}; give 'builtin:intents', a {', '.join(SUFFIXES)} file, "
        "or a hub id"
    )
