"""Draws how far emulation is from what really ran: live devices beside their twins, Flower's processes beside theirs.

All is made of the JSON that ``benchmarks.world.live --json`` and ``benchmarks.world.flower_real --json`` write.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MOST_OF_ACTIVITY, MOST_OF_RUN = 0.05, 0.05
"""What is wanted: of an activity of a live device, and of the rounds of a federation of Flower's."""


def read_found(path: Path, what: str) -> dict[str, Any]:
    """What a program has written, which says itself ``what`` it is.

    Raises:
        SystemExit: the file is not that.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"{str(path)!r}: cannot be read as JSON: {error}") from None
    if not isinstance(found, dict) or found.get("what") != what:
        raise SystemExit(f"{str(path)!r} is not what python -m {what} --json writes")
    return found


def draw_live(axes: Any, found: Mapping[str, Any]) -> None:
    """A point for each activity: how much longer it took live than on the virtual clock."""
    lengths_s = [row["virtual_s"] for twins in found["policies"] for row in twins["activities"]]
    span_s = (0.8 * min(lengths_s), 1.25 * max(lengths_s))
    most = 100 * MOST_OF_ACTIVITY
    axes.fill_between(span_s, -most, most, color="black", alpha=0.1, linewidth=0, label=f"±{most:g} %")
    for twins in found["policies"]:
        rows = twins["activities"]
        axes.plot(
            [row["virtual_s"] for row in rows],
            [100 * (row["live_s"] / row["virtual_s"] - 1) for row in rows],
            "o",
            markersize=4,
            alpha=0.6,
            label=twins["policy"],
        )
    axes.set(xscale="log", xlim=span_s, xlabel="activity on the virtual clock, s", ylabel="live beyond that, %")
    axes.set_title(f"{found['n_devices']} live devices at {found['speed']:g} times the pace, {found['n_cores']} cores")
    axes.legend(fontsize=8)


def live_table(found: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    """A row for each policy, below a heading."""
    heading = ("policy", "run, virtual s", "run, live s", "error", "rounds", "activities", "median", "95th percentile")
    rows = [(*heading, "within 5 %", "same order", "same losses")]
    for twins in found["policies"]:
        errors = np.abs([row["live_s"] / row["virtual_s"] - 1 for row in twins["activities"]])
        lengths = twins["rounds"]
        rows.append(
            (
                twins["policy"],
                f"{sum(each['virtual_s'] for each in lengths):.2f}",
                f"{sum(each['live_s'] for each in lengths):.2f}",
                _signed(sum(each["live_s"] for each in lengths) / sum(each["virtual_s"] for each in lengths) - 1),
                ", ".join(_signed(each["live_s"] / each["virtual_s"] - 1) for each in lengths),
                str(len(errors)),
                f"{np.median(errors):.1%}",
                f"{np.quantile(errors, 0.95):.1%}",
                f"{np.mean(errors <= MOST_OF_ACTIVITY):.1%}",
                _yes(twins["is_same_sequence"]),
                _yes(twins["has_same_loss"]),
            )
        )
    return rows


def draw_flower(axes: Any, found: Mapping[str, Any]) -> None:
    """Two bars a round: what Flower's processes took, and what their emulation says."""
    places = np.arange(len(found["rounds"]))
    flower_s, emulated_s = ([each[key] for each in found["rounds"]] for key in ("flower_s", "emulated_s"))
    axes.bar(places - 0.2, flower_s, 0.4, label="Flower's processes")
    axes.bar(places + 0.2, emulated_s, 0.4, label="emulated")
    for place, real_s, length_s in zip(places, flower_s, emulated_s, strict=True):
        axes.annotate(_signed(length_s / real_s - 1), (place, max(real_s, length_s)), ha="center", va="bottom")
    axes.set_xticks(places, [str(each["round"]) for each in found["rounds"]])
    axes.set(xlabel="round", ylabel="length, s")
    error = _signed(sum(emulated_s) / sum(flower_s) - 1)
    n_devices = len(found["devices"])
    axes.set_title(f"{n_devices} SuperNodes on links that tc holds; in all {error} (wanted: {MOST_OF_RUN:.0%})")
    axes.legend(fontsize=8, loc="lower right")


def flower_table(found: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    """A row for each figure, below a heading."""
    rows = [("", "Flower", "emulated", "error")]
    lengths = [("all", *(sum(each[key] for each in found["rounds"]) for key in ("flower_s", "emulated_s")))]
    lengths = [(each["round"], each["flower_s"], each["emulated_s"]) for each in found["rounds"]] + lengths
    for name, real_s, emulated_s in lengths:
        rows.append((f"round {name}" if name != "all" else "all rounds", *_pair(real_s, emulated_s, 1.0, "s")))
    for each in found["devices"]:
        name = f"device {each['device_id']} computes, a round"
        rows.append((name, *_pair(each["flower_s"], each["emulated_s"], 1.0, "s")))
    for each in found["bytes"]:
        rows.append((f"{each['way']}, on the wire", *_pair(each["flower_bytes"], each["emulated_bytes"], 1e6, "MB")))
    return rows


def _pair(real: float, emulated: float, unit: float, name: str) -> tuple[str, str, str]:
    return f"{real / unit:.2f} {name}", f"{emulated / unit:.2f} {name}", _signed(emulated / real - 1)


def _signed(error: float) -> str:
    return f"{error:+.1%}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
