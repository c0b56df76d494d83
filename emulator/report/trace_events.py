"""A run's emulated time as trace events, which ui.perfetto.dev and chrome://tracing open.

The format is Google's Trace Event Format in its JSON object form: complete events (``ph`` X) on tracks, counters (C),
instants (i), and metadata (M) that name processes and tracks. A process stands for a side of the testbed, a track for
a device. Times are emulated, in microseconds.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emulator.analysis.devices import without_power
from emulator.records import ActivityKind
from emulator.results.reader import RunFrames

SERVER, NETWORK, DEVICES = 1, 2, 3
"""The processes. Tracks of SERVER and NETWORK are number 0, a device's track is its id."""

TraceEvent = dict[str, Any]

_SERVER_FACTS = ("n_cohort", "n_ok", "n_dropped", "n_out_of_memory", "n_late", "n_unavailable")
_DEVICE_FACTS = ("status", "power_mode", "depth", "n_steps", "batch_size", "train_loss")
_TRANSFERS = {ActivityKind.DOWNLOAD: "downloads", ActivityKind.UPLOAD: "uploads"}


def trace_lines(frames: RunFrames, span: tuple[int, int] | None = None) -> Iterator[str]:
    """The JSON of a run's trace, one event on a line: metadata first, then all events by the time they begin.

    ``span`` is the first and the last round that is told; without it, all are.

    Times are whole nanoseconds, so that what follows without a gap neither overlaps nor leaves one.
    """
    facts = {key: frames.info.get(key) for key in ("policy", "seed", "status", "priced_model", "trained_model")}
    facts["without_power_figures"] = list(without_power(frames.devices))
    yield f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(facts, ensure_ascii=False)}, "traceEvents": [\n'
    events = chain(_metadata(frames), _timed(frames, span))
    yield json.dumps(next(events), ensure_ascii=False, separators=(",", ":"))
    for event in events:
        yield ",\n" + json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    yield "\n]}\n"


def _metadata(frames: RunFrames) -> Iterator[TraceEvent]:
    title = f"{frames.info.get('policy') or 'run'}, seed {frames.info.get('seed')}"
    for pid, name in ((SERVER, f"server ({title})"), (NETWORK, "network"), (DEVICES, "devices")):
        yield _meta("process_name", pid, 0, {"name": name})
        yield _meta("process_sort_index", pid, 0, {"sort_index": pid})
    yield _meta("thread_name", SERVER, 0, {"name": "rounds"})
    devices = frames.devices.drop_duplicates("device_id").sort_values("device_id")
    width = len(str(devices["device_id"].max())) if len(devices) else 1
    for device_id, profile in zip(devices["device_id"].tolist(), devices["profile"].tolist(), strict=True):
        yield _meta("thread_name", DEVICES, device_id, {"name": f"{device_id:0{width}d} {profile}"})
        yield _meta("thread_sort_index", DEVICES, device_id, {"sort_index": device_id})


def _meta(name: str, pid: int, tid: int, args: TraceEvent) -> TraceEvent:
    return {"ph": "M", "name": name, "pid": pid, "tid": tid, "ts": 0, "args": args}


def _timed(frames: RunFrames, span: tuple[int, int] | None) -> list[TraceEvent]:
    rounds, devices, activities = (_within(rows, span) for rows in (frames.rounds, frames.devices, frames.activities))
    events = [*_rounds(rounds), *_activities(activities, devices), *_in_flight(activities)]
    # Stable: what begins at the same time stays in this order, rounds before what happens in them.
    return sorted(events, key=lambda event: event["ts"])


def _within(rows: pd.DataFrame, span: tuple[int, int] | None) -> pd.DataFrame:
    return rows if span is None else rows.loc[rows["round_index"].between(*span)]


def _rounds(rounds: pd.DataFrame) -> Iterator[TraceEvent]:
    start_ns, end_ns = _nanoseconds(rounds["start_s"]), _nanoseconds(rounds["end_s"])
    for position, row in enumerate(rounds.to_dict("records")):
        begin_us, end_us = start_ns[position] / 1e3, end_ns[position] / 1e3
        args = {name: row[name] for name in _SERVER_FACTS}
        args |= _present({name: row[name] for name in ("accuracy", "loss", "train_loss", "mean_waiting_s")})
        if row["energy_j"] > 0:
            args |= {"joules": row["energy_j"]}
        yield _slice(f"round {row['round_index']}", "round", SERVER, 0, start_ns[position], end_ns[position], args)
        mark = {"ph": "i", "name": f"round {row['round_index']} begins", "s": "g"}
        yield mark | {"pid": SERVER, "tid": 0, "ts": begin_us}
        for name in ("accuracy", "loss"):
            if not math.isnan(row[name]):
                yield _count(name, SERVER, end_us, {name: row[name]})


def _activities(rows: pd.DataFrame, devices: pd.DataFrame) -> Iterator[TraceEvent]:
    device_rounds = devices.set_index(["round_index", "device_id"])[list(_DEVICE_FACTS)]
    facts = {key: _present(row) for key, row in device_rounds.to_dict("index").items()}
    columns = ("round_index", "device_id", "inner_round", "kind", "n_bytes", "energy_j")
    values = (_nanoseconds(rows["start_s"]), _nanoseconds(rows["end_s"]), *(rows[name].tolist() for name in columns))
    for start_ns, end_ns, round_index, device_id, inner_round, kind, n_bytes, joules in zip(*values, strict=True):
        told = facts.get((round_index, device_id), {})
        args = {"round": round_index, "inner_round": inner_round}
        if joules > 0:  # nothing is known of a board without power figures
            args["joules"] = float(f"{joules:.6g}")
        # Settings stand beside the work that they are settings of, once.
        args |= told if kind == ActivityKind.COMPUTE else {"status": told.get("status")}
        if kind in _TRANSFERS:
            args["bytes"] = n_bytes
        yield _slice(kind, kind, DEVICES, device_id, start_ns, end_ns, args)


def _in_flight(activities: pd.DataFrame) -> Iterator[TraceEvent]:
    """How many transfers are under way and what they carry together, whenever that changes.

    A transfer counts with its mean rate, which is what a table of activities can tell.
    """
    counts = {name: _steps(activities.loc[activities["kind"] == kind]) for kind, name in _TRANSFERS.items()}
    times_ns = np.unique(np.concatenate([times for times, _, _ in counts.values()]))
    shown: Mapping[str, object] = {}
    for position, time_ns in enumerate(times_ns.tolist()):
        now = {name: _at(steps, times_ns, position) for name, steps in counts.items()}
        if now == shown:
            continue
        shown, time_us = now, time_ns / 1e3
        yield _count("transfers in flight", NETWORK, time_us, {name: count for name, (count, _) in now.items()})
        yield _count("payload MB/s", NETWORK, time_us, {name: round(rate / 1e6, 6) for name, (_, rate) in now.items()})


Steps = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _steps(rows: pd.DataFrame) -> Steps:
    """Times in ns at which the transfers of one direction change, and from each on their number and bytes/s."""
    start_ns, end_ns = (np.array(_nanoseconds(rows[name]), dtype=np.int64) for name in ("start_s", "end_s"))
    lasts = end_ns > start_ns
    start_ns, end_ns = start_ns[lasts], end_ns[lasts]
    rate = rows["n_bytes"].to_numpy(dtype=np.float64)[lasts] / ((end_ns - start_ns) / 1e9)
    times_ns, where = np.unique(np.concatenate([start_ns, end_ns]), return_inverse=True)
    count_change = np.bincount(where, np.repeat([1.0, -1.0], len(start_ns)), len(times_ns))
    rate_change = np.bincount(where, np.concatenate([rate, -rate]), len(times_ns))
    counts = np.rint(np.cumsum(count_change)).astype(np.int64)
    # What is left of a sum that should be zero is rounding.
    return times_ns, counts, np.where(counts > 0, np.maximum(np.cumsum(rate_change), 0.0), 0.0)


def _at(steps: Steps, times_ns: NDArray[np.int64], position: int) -> tuple[int, float]:
    changes_ns, counts, rates = steps
    index = int(np.searchsorted(changes_ns, times_ns[position], side="right")) - 1
    return (int(counts[index]), float(rates[index])) if index >= 0 else (0, 0.0)


def _slice(
    name: str, category: str, pid: int, tid: int, start_ns: int, end_ns: int, args: Mapping[str, object]
) -> TraceEvent:
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": pid,
        "tid": tid,
        "ts": start_ns / 1e3,
        "dur": (end_ns - start_ns) / 1e3,
        "args": dict(args),
    }


def _count(name: str, pid: int, time_us: float, values: Mapping[str, object]) -> TraceEvent:
    return {"ph": "C", "name": name, "pid": pid, "tid": 0, "ts": time_us, "args": dict(values)}


def _nanoseconds(seconds: pd.Series) -> Sequence[int]:
    rounded: list[int] = np.rint(seconds.to_numpy(dtype=np.float64) * 1e9).astype(np.int64).tolist()
    return rounded


def _present(facts: Mapping[Any, Any]) -> dict[str, Any]:
    """Without what is not there: JSON has no NaN."""
    return {str(key): value for key, value in facts.items() if not (isinstance(value, float) and math.isnan(value))}
