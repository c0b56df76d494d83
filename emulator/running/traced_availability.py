"""A run's devices by an availability trace: from its origin on, in a loop, and by a clock of another pace."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from emulator.config import AvailabilityConfig
from emulator.world.availability import Trace
from emulator.world.availability_trace import Spans, read_trace

WHERE = "testbed.availability"
MOST_GAP_S = 86_400.0
"""A trace in which nobody can be reached for longer than this counts from another moment, such as 1970."""
LEAST_PERIOD_S = 1e-3
"""In emulated time: every span is waited for by itself, so that shorter ones would keep a round from ending."""
MOST_NAMED = 12
"""So many devices are named one by one."""


def traced(config: AvailabilityConfig, path: Path, n_devices: int) -> Trace:
    """The run's devices by the trace at ``path``, as ``config`` has it replayed.

    Raises:
        ValueError: it is no trace, it lists none of the devices, or none of them where the run begins or for a day.
    """
    if config.trace_period_s is not None and not config.trace_loop:
        raise ValueError(
            f"{WHERE}.trace_period_s is for {WHERE}.trace_loop = true, which is not set, got {config.trace_period_s!r}"
        )
    recorded = read_trace(path)
    own = {device_id: spans for device_id, spans in recorded.by_device.items() if device_id < n_devices}
    if not own:
        got = _devices(sorted(recorded.by_device))
        raise ValueError(f"{path}: lists none of the devices {_devices(range(n_devices))}, got {got}")
    first_s = min(spans[0][0] for spans in own.values())
    origin_s = first_s if config.origin_s == "first" else float(config.origin_s)
    spans = _within(own, origin_s, config.trace_period_s)
    if not any(spans.values()):
        last_s = max(each[-1][1] for each in own.values())
        if last_s > origin_s:
            raise ValueError(
                f"{path}: can reach nobody in the {config.trace_period_s:,.10g} s after {origin_s:,.10g} s that "
                f"{WHERE}.trace_period_s repeats; make it longer, or give another {WHERE}.origin_s"
            )
        raise ValueError(
            f"{path}: ends before {WHERE}.origin_s = {origin_s:,.10g} s; its last span ends at {last_s:,.10g} s"
        )
    if config.trace_loop:
        period_s = config.trace_period_s or max(each[-1][1] for each in recorded.by_device.values()) - origin_s
        if period_s * config.trace_time_scale < LEAST_PERIOD_S:
            raise ValueError(
                f"{path}: {period_s:g} s in a loop with {WHERE}.trace_time_scale = {config.trace_time_scale:g} begin "
                f"anew more often than each {LEAST_PERIOD_S:g} emulated seconds; make the scale larger"
            )
    else:
        period_s = None
        if not any(end_s > config.trace_offset_s for each in spans.values() for _, end_s in each):
            last_s = max(end_s for each in spans.values() for _, end_s in each)
            raise ValueError(
                f"{path}: ends before {WHERE}.trace_offset_s = {config.trace_offset_s:,.10g} s; its last span ends "
                f"{last_s:,.10g} s after its origin; make it smaller, or set {WHERE}.trace_loop = true"
            )
    _check_gap(path, spans, origin_s, 0.0 if config.trace_loop else config.trace_offset_s)
    return Trace(
        n_devices,
        spans,
        _notes(path, spans, len(recorded.by_device) - len(own), recorded.n_empty, n_devices),
        offset_s=config.trace_offset_s,
        period_s=period_s,
        time_scale=config.trace_time_scale,
    )


def _within(own: Mapping[int, Spans], origin_s: float, period_s: float | None) -> dict[int, list[tuple[float, float]]]:
    """Spans from the origin on, counted from there, up to the end of the period if there is one."""
    counted = {
        device_id: [(max(start_s - origin_s, 0.0), end_s - origin_s) for start_s, end_s in each if end_s > origin_s]
        for device_id, each in own.items()
    }
    if period_s is None:
        return counted
    return {
        device_id: [(start_s, min(end_s, period_s)) for start_s, end_s in each if start_s < period_s]
        for device_id, each in counted.items()
    }


def _check_gap(path: Path, spans: Mapping[int, Spans], origin_s: float, offset_s: float) -> None:
    first_s = min(max(start_s, offset_s) for each in spans.values() for start_s, end_s in each if end_s > offset_s)
    if first_s - offset_s <= MOST_GAP_S:
        return
    begins_s = first_s + origin_s
    raise ValueError(
        f"{path}: can reach nobody before {begins_s:,.10g} s, more than a day after the run begins; if its times "
        f'count from another moment, set {WHERE}.origin_s = {begins_s:.10g}, or "first" for its first moment'
    )


def _notes(path: Path, spans: Mapping[int, Spans], n_beyond: int, n_empty: int, n_devices: int) -> list[str]:
    notes = []
    if never := [device_id for device_id in range(n_devices) if not spans.get(device_id)]:
        notes.append(f"{path.name} never has {len(never)} of {n_devices} devices: {_devices(never)}")
    if n_beyond:
        notes.append(f"{path.name} has {n_beyond} more devices than the run's {n_devices}, which are left out")
    if n_empty:
        notes.append(f"{path.name}: {n_empty} spans that end as they begin are left out")
    return notes


def _devices(device_ids: Sequence[int]) -> str:
    """Their ids in words, the first ones where there are many."""
    if len(device_ids) > 2 and device_ids[-1] - device_ids[0] == len(device_ids) - 1:
        return f"{device_ids[0]} to {device_ids[-1]}"
    named = ", ".join(map(str, device_ids[:MOST_NAMED]))
    rest = len(device_ids) - MOST_NAMED
    return f"{named} and {rest} more" if rest > 0 else named
