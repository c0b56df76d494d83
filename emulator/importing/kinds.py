"""The kinds of recordings that can be imported, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from emulator.importing.rates import import_mahimahi, import_throughput
from emulator.importing.recording import ALL_COLUMNS, Columns, Imported
from emulator.importing.spans import import_colext, import_fedscale, import_flhetbench


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """What is said of a recording; a kind takes some of it, and None or nothing is what it knows by itself.

    Attributes:
        window_s: over how many seconds packets are counted.
        unit: of the rates.
        columns: of the table.
    """

    window_s: float | None = None
    unit: str | None = None
    columns: Columns = ALL_COLUMNS


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportKind:
    """A kind of recording: what it holds, the options that it takes, and how it is read."""

    holds: str
    options: tuple[str, ...]
    read: Callable[[Path, ImportOptions], Imported]


WINDOW_S = 1.0
IMPORT_KINDS: Mapping[str, ImportKind] = {
    "fedscale": ImportKind(
        holds="FedScale's client_behave_trace as JSON, to an availability trace",
        options=(),
        read=lambda path, options: import_fedscale(path),
    ),
    "flhetbench": ImportKind(
        holds="FLHetBench's cached_timers or FLASH's states as JSON, to an availability trace",
        options=(),
        read=lambda path, options: import_flhetbench(path),
    ),
    "colext": ImportKind(
        holds="CoLExT's hw_metrics.csv, to an availability trace",
        options=("time_column", "only"),
        read=lambda path, options: import_colext(path, options.columns),
    ),
    "mahimahi": ImportKind(
        holds="Mahimahi's packet deliveries, to a link's rates",
        options=("window_s",),
        read=lambda path, options: import_mahimahi(path, options.window_s or WINDOW_S),
    ),
    "throughput": ImportKind(
        holds="a log of rates (FCC, 5G, Pensieve, CoLExT), to a link's rates",
        options=("unit", "time_column", "rate_column", "only"),
        read=lambda path, options: import_throughput(path, options.columns, options.unit),
    ),
}
