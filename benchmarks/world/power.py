"""Fits the power law of AGX Orin to published loads and prints its errors: ``python -m benchmarks.world.power``.

A board at rest draws ``idle``; at full load of arithmetic ``load`` watts more. Of these, a share is drawn as soon as it
computes at all, however little (clocks are up, a CPU core hands over operations), and the rest in proportion to how
busy the arithmetic is. Bytes that pass through the memory cost joules of their own:

    watts = idle + load (awake + (1 - awake) arithmetic) + joules_per_byte bytes_per_s.

That is the energy roofline of Choi et al. (IPDPS 2013) divided by time, with its constant power split between a board
at rest and one at work. The table that is printed is that of ``device_profiles/README.md``.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import device_profiles
from device_profiles.catalog import load_profile
from device_profiles.records import PRECISIONS, PowerLaw
from emulator.records import NO_ADAPTERS, Work, WorkKind
from emulator.shapes.catalog import model_spec
from emulator.world.price.price_bands import price_step

PARTIAL_LOADS = "agx_orin_power.csv"
BATCHES = "bert_large_power.csv"

JOULES_PER_BYTE = 54e-12
"""What a byte costs between LPDDR memory and processor: 6.7 pJ a bit. Assumed, good to a factor of 2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadPoint:
    """What a board draws (W) under a load that keeps its arithmetic busy for a share of the time.

    ``full_w`` is what it draws where arithmetic is busy all the time, ``bytes_per_s`` what passes through its memory.
    """

    idle_w: float
    full_w: float
    arithmetic_share: float
    bytes_per_s: float
    power_w: float


def fit_awake_share(points: Sequence[LoadPoint]) -> float:
    """The share of a board's load that it draws as soon as it computes: least squares of relative errors.

    Raises:
        ValueError: no point is below full load, so that none tells the share.
    """
    known_w = np.array([drawn_w(point, 0.0) for point in points])
    slopes_w = np.array([drawn_w(point, 1.0) for point in points]) - known_w
    watts = np.array([point.power_w for point in points])
    slopes, wanted = slopes_w / watts, (watts - known_w) / watts
    if not np.any(slopes):
        raise ValueError("the share is told by loads below the full one, got none")
    return float(np.clip(slopes @ wanted / (slopes @ slopes), 0.0, 1.0))


def drawn_w(point: LoadPoint, awake_share: float) -> float:
    """What the law says of a point, whose own ``power_w`` it does not read."""
    load_w = point.full_w - point.idle_w
    busy_share = awake_share + (1 - awake_share) * point.arithmetic_share
    return point.idle_w + load_w * busy_share + JOULES_PER_BYTE * point.bytes_per_s


def power_law(
    idle_w: float, load_w: dict[str, float], awake_share: float, memory_bytes_per_s: float, precision: str = "fp32"
) -> PowerLaw:
    """The law of a power mode whose arithmetic at full load adds ``load_w`` to ``idle_w``, by precision.

    What is drawn as soon as it computes does not depend on the precision: it is that of ``precision``.
    """
    awake_w = awake_share * load_w[precision]
    return PowerLaw(
        awake_w=idle_w + awake_w,
        arithmetic_w={each: load_w[each] - awake_w for each in PRECISIONS},
        memory_w=JOULES_PER_BYTE * memory_bytes_per_s,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A published load beside what the law says; ``use`` is ``fit`` or ``check``."""

    load: str
    mode: str
    measured_w: float
    law_w: float
    use: str

    @property
    def error_fraction(self) -> float:
        return self.law_w / self.measured_w - 1


def comparisons() -> tuple[Comparison, ...]:
    """All published loads: first those that are fitted to, then those that are not."""
    share = published_share()
    return tuple(each for use in ("fit", "check") for each in (*_partial_loads(use, share), *_batches(use)))


def published_share() -> float:
    """The share that fits the partial loads which are there to be fitted to."""
    return fit_awake_share([_load_point(row) for row in _rows(PARTIAL_LOADS, "fit")])


def _partial_loads(use: str, share: float) -> Iterator[Comparison]:
    for row in _rows(PARTIAL_LOADS, use):
        point = _load_point(row)
        law_w = drawn_w(point, share)
        yield Comparison(load=row["workload"], mode=row["mode"], measured_w=point.power_w, law_w=law_w, use=use)


def _batches(use: str) -> Iterator[Comparison]:
    """What the profile as it is says of inference of BERT-large."""
    for row in _rows(BATCHES, use):
        seq_len, profile = int(row["seq_len"]), load_profile(row["device"])
        model = model_spec("bert-large", n_labels=2, seq_len=seq_len, head="output")
        work = Work(
            n_steps=1,
            batch_size=int(row["batch_size"]),
            seq_len=seq_len,
            forward_layers=model.n_layers,
            backward_layers=0,
            adapters=NO_ADAPTERS,
            kind=WorkKind.INFERENCE,
        )
        price = price_step(profile, profile.mode(row["mode"]), model, work, row["precision"])
        name = f"BERT-large {row['precision']}, batch {row['batch_size']}"
        measured_w = float(row["power_w"])
        yield Comparison(load=name, mode=row["mode"], measured_w=measured_w, law_w=price.compute_w.value, use=use)


def _load_point(row: Mapping[str, str]) -> LoadPoint:
    query_s = float(row["query_ms"]) / 1e3
    return LoadPoint(
        idle_w=float(row["idle_w"]),
        full_w=float(row["full_w"]),
        arithmetic_share=int(row["n_per_query"]) / query_s / float(row["full_per_s"]),
        bytes_per_s=1e9 * float(row["weight_gb"]) / query_s,
        power_w=float(row["power_w"]),
    )


def _rows(name: str, use: str) -> Sequence[Mapping[str, str]]:
    folder = Path(next(iter(device_profiles.__path__)))
    with (folder / name).open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(line for line in file if not line.startswith("#")) if row["use"] == use]


def table() -> str:
    """The comparisons as a table in Markdown."""
    lines = ["| load of an AGX Orin | mode | measured W | law W | error | |", "|---|---|---|---|---|---|"]
    for each in comparisons():
        watts = f"{each.measured_w:g} | {each.law_w:.1f} | {each.error_fraction:+.1%}"
        lines.append(f"| {each.load} | {each.mode} | {watts} | {each.use} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(f"share of the load that a board draws as soon as it computes: {published_share():.3f}")
    print(table())
