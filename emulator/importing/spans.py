"""Recorded availability as an availability trace: a line for each span in which a device can be reached."""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from device_profiles.text_files import FileError, shortened
from emulator.importing.recording import (
    GAP_STEPS,
    MOST_BACKWARD_FRACTION,
    Columns,
    Imported,
    check_finite,
    column,
    read_json,
    read_table,
    seconds,
)

MOST_SPANS = 1_000_000
"""As many as an availability trace may list."""
_CONDITIONS = {
    "battery_charged_on": ("charging", True),
    "battery_charged_off": ("charging", False),
    "wifi": ("wifi", True),
    "unknown": ("wifi", False),
    "2g": ("wifi", False),
    "3g": ("wifi", False),
    "4g": ("wifi", False),
    "5g": ("wifi", False),
    "screen_lock": ("locked", True),
    "screen_unlock": ("locked", False),
    "screen_on": ("", True),
    "screen_off": ("", True),
}
"""What a state of FLASH's says of the phone; those of the screen's light say nothing that counts."""


@dataclass(slots=True)
class _Client:
    """One client's spans as recorded, with the time at which its recording ends, in seconds."""

    spans: list[tuple[float, float]] = field(default_factory=list)
    end_s: float | None = None


@dataclass(slots=True)
class _Met:
    """How often something was met that a rule is for."""

    n_backward: int = 0
    n_empty: int = 0
    n_open: int = 0
    n_before: int = 0
    n_useless: int = 0


def import_fedscale(path: Path) -> Imported:
    """FedScale's availability of clients (``client_behave_trace``), as JSON.

    Each client has the lists ``active`` and ``inactive``, in seconds: it can be reached from each of the former up to
    the latter of the same place, and all repeats after ``finish_time``.

    Raises:
        FileError: it is no such file, or a pickle, as FedScale publishes it.
    """
    met = _Met()
    clients = {}
    for name, entry in read_json(path).items():
        where = f"client {shortened(name)}"
        starts_s = _times(entry, "active", where)
        ends_s = _times(entry, "inactive", where)
        finish_s = _time(entry["finish_time"], where, "finish_time") if "finish_time" in entry else None
        if len(starts_s) == len(ends_s) + 1 and finish_s is not None:
            ends_s = [*ends_s, finish_s]
            met.n_open += 1
        if len(starts_s) != len(ends_s):
            raise FileError(f"{where} is active {len(starts_s)} times and inactive {len(ends_s)} times")
        clients[name] = _Client(list(zip(starts_s, ends_s, strict=True)), finish_s)
    return _imported(clients, 0.0, met, "units: seconds")


def import_flhetbench(path: Path) -> Imported:
    """FLHetBench's states of phones, as JSON: its ``cached_timers``, or FLASH's ``messages`` that these are made from.

    In messages a phone can be reached while it is locked, charging and on Wi-Fi, which is FLHetBench's rule.

    Raises:
        FileError: it is no such file.
    """
    met = _Met()
    clients = {}
    for name, entry in read_json(path).items():
        where = f"client {shortened(name)}"
        if isinstance(entry, dict) and isinstance(entry.get("messages"), str):
            client = _from_messages(entry["messages"], met)
        elif isinstance(entry, dict) and "ready_time" in entry:
            client = _from_timer(entry, where)
        else:
            raise FileError(f"{where} must have 'ready_time' or 'messages', got {shortened(entry)}")
        if client is None:
            met.n_useless += 1
        else:
            clients[name] = client
    first_s = min((start_s for each in clients.values() for start_s, _ in each.spans), default=0.0)
    return _imported(clients, first_s, met, "units: seconds; dates count as UTC")


def import_colext(path: Path, columns: Columns) -> Imported:
    """CoLExT's ``hw_metrics.csv``: a client can be reached while it reports.

    Raises:
        FileError: it is no such file.
    """
    times: dict[str, array[float]] = {}
    time_name = client_name = ""
    for number, row in read_table(path, columns.only):
        if not time_name:
            time_name = column(row, ("time",), columns.time, "times", "--time-column")
            client_name = column(row, ("client_id",), None, "clients", "renaming it")
        time_s = check_finite(seconds(row[time_name], number), f"line {number}: {time_name}")
        times.setdefault(row[client_name], array("d")).append(time_s)
    if not times:
        raise FileError("has no rows" + (f" with {columns.only[0]} = {columns.only[1]!r}" if columns.only else ""))
    n_backward = n_gaps = 0
    clients = {}
    for name, each in times.items():
        reported_s = np.frombuffer(each, dtype=np.float64)
        latest_s = np.maximum.accumulate(reported_s)
        is_later = np.r_[True, reported_s[1:] > latest_s[:-1]]
        n_backward += int((~is_later).sum())
        reported_s = reported_s[is_later]
        if len(reported_s) < 2:
            continue
        steps_s = np.diff(reported_s)
        after = np.flatnonzero(steps_s > GAP_STEPS * np.median(steps_s))
        n_gaps += len(after)
        starts_s = reported_s[np.r_[0, after + 1]]
        ends_s = reported_s[np.r_[after, len(reported_s) - 1]]
        clients[name] = _Client(list(zip(starts_s.tolist(), ends_s.tolist(), strict=True)))
    n_rows = sum(map(len, times.values()))
    if n_backward > MOST_BACKWARD_FRACTION * n_rows:
        raise FileError(
            f"goes back in time in {n_backward} of {n_rows} rows; import one job's file at a time, or one client by "
            "--only client_id=VALUE"
        )
    met = _Met(n_backward=n_backward, n_useless=len(times) - len(clients))
    first_s = min((each.spans[0][0] for each in clients.values()), default=0.0)
    gaps = f"gaps: {n_gaps} of more than {GAP_STEPS:g} of the client's median steps are times at which it is away"
    return _imported(clients, first_s, met, "units: seconds; dates without a zone count as UTC", gaps)


def _from_timer(entry: Mapping[str, Any], where: str) -> _Client | None:
    if entry.get("isSuccess") is False:
        return None
    spans = entry["ready_time"]
    if not (isinstance(spans, list) and all(isinstance(each, list) and len(each) == 2 for each in spans)):
        raise FileError(f"{where}: ready_time must be a list of pairs, got {shortened(spans)}")
    found = [(_time(start, where, "ready_time"), _time(end, where, "ready_time")) for start, end in spans]
    return _Client(found) if found else None


def _from_messages(messages: str, met: _Met) -> _Client | None:
    """None where a state or time makes no sense, as FLHetBench leaves out such phones, or where it is never ready."""
    states = {"charging": False, "wifi": False, "locked": False}
    client = _Client()
    since_s: float | None = None
    now_s = -math.inf
    for number, line in enumerate(messages.split("\n"), start=1):
        if not (text := line.replace("\0", "").strip()):
            continue
        moment, _, state = text.partition("\t")
        condition = _CONDITIONS.get(state.strip().lower())
        if condition is None and not state.endswith("%"):  # a level of the battery says nothing that counts
            return None
        name, value = condition or ("", True)
        try:
            time_s = seconds(moment.strip(), number)
        except FileError:
            return None
        if time_s < now_s:
            met.n_backward += 1
            continue
        now_s = time_s
        if name:
            states[name] = value
        is_ready = all(states.values())
        if is_ready and since_s is None:
            since_s = now_s
        elif since_s is not None and not is_ready:
            client.spans.append((since_s, now_s))
            since_s = None
    if since_s is not None:
        client.spans.append((since_s, now_s))
        met.n_open += 1
    return client if client.spans else None


def _imported(clients: Mapping[str, _Client], first_s: float, met: _Met, units: str, gaps: str = "") -> Imported:
    lines = ["device_id, start_s, end_s\n"]
    names = sorted(clients, key=_order)
    n_devices, last_s = 0, 0.0
    for name in names:
        label = f"  # client {shortened(name, 60)}"
        for start_s, end_s in _kept(clients[name].spans, first_s, met):
            lines.append(f"{n_devices}, {start_s:.12g}, {end_s:.12g}{label}\n")
            label, last_s = "", max(last_s, end_s)
        if label:
            met.n_useless += 1
        else:
            n_devices += 1
    if not n_devices:
        raise FileError("has no span of time in which any client can be reached")
    if len(lines) > MOST_SPANS:
        raise FileError(
            f"has {len(lines) - 1:,} spans, and a trace may list {MOST_SPANS:,}; import a part of its clients"
        )
    ends_s = {each.end_s for each in clients.values() if each.end_s is not None}
    rules = {
        "backward times: {} spans or lines that end or come before the ones they follow are left out": met.n_backward,
        "empty: {} spans that end as they begin are left out": met.n_empty,
        "open: {} spans without an end last as long as the recording": met.n_open,
        "early: {} spans are cut at 0 s, before which no run begins": met.n_before,
        "useless: {} clients that can never be reached, or whose states are damaged, are left out": met.n_useless,
    }
    notes = [units, gaps or "gaps: between spans a client is away"]
    notes += [rule.format(number) for rule, number in rules.items() if number]
    notes.append(f"beginning: 0 s is {first_s:,.10g} s of the recording; devices are numbered in the order of clients")
    if ends_s:
        others = f", of others earlier, from {min(ends_s):,.10g} s on" if len(ends_s) > 1 else ""
        notes.append(
            f"end: the recording of some client lasts {max(ends_s):,.10g} s{others}; to repeat it as its makers do, "
            f"set testbed.availability.trace_loop = true and trace_period_s = {max(ends_s):.10g}"
        )
    return Imported(
        lines=lines,
        holds=f"an availability trace: {n_devices:,} devices, {len(lines) - 1:,} spans over {last_s:,.6g} s",
        notes=notes,
    )


def _kept(spans: Sequence[tuple[float, float]], first_s: float, met: _Met) -> list[tuple[float, float]]:
    kept = []
    for start_s, end_s in spans:
        if end_s < start_s:
            met.n_backward += 1
        elif end_s == start_s:
            met.n_empty += 1
        elif end_s <= first_s or start_s < first_s:
            met.n_before += 1
            if end_s > first_s:
                kept.append((0.0, end_s - first_s))
        else:
            kept.append((start_s - first_s, end_s - first_s))
    return sorted(kept)


def _order(name: str) -> tuple[int, int, str]:
    """Clients by number, and after them those with other names, alphabetically."""
    is_number = name.isascii() and name.isdigit()
    return (0, int(name[:1000]), "") if is_number else (1, 0, name)


def _times(entry: Any, key: str, where: str) -> list[float]:
    if not isinstance(entry, dict) or not isinstance(entry.get(key), list):
        raise FileError(f"{where} must have a list {key!r} of times in seconds, got {shortened(entry)}")
    return [_time(value, where, key) for value in entry[key]]


def _time(value: Any, where: str, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FileError(f"{where}: {key} must be a time in seconds, got {shortened(value)}")
    try:
        return check_finite(float(value), f"{where}: {key}")
    except OverflowError:
        raise FileError(f"{where}: {key} is too large, got {shortened(value)}") from None
