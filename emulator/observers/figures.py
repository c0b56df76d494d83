"""The figures of a closed round that dashboards draw, by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from emulator.observers.base import RoundClosed

PER_GROUP = ("waiting_s", "energy_j", "train_loss")


def figures(closed: RoundClosed) -> dict[str, float]:
    """Every figure that is known of a round.

    These are the columns of its row in ``rounds``, by their names there, with ``emulated_s`` (when it ended),
    ``round_s`` (how long it took) and ``n_bytes`` (down and up) in addition. Where a plan has groups, there are
    ``group_0/energy_j`` and the like, means over the devices of a group. A list, such as ``class_f1``, is no figure.
    """
    row = {name: values[0] for name, values in closed.rows["rounds"].items()}
    start_s, end_s = row.pop("start_s"), row.pop("end_s")
    del row["round_index"]
    row |= {
        "emulated_s": end_s,
        "round_s": end_s - start_s,
        "n_bytes": row["download_bytes"] + row["upload_bytes"],
    }
    known = {name: float(value) for name, value in row.items() if value is not None and not isinstance(value, tuple)}
    return known | _of_groups(closed.rows["devices"])


def _of_groups(devices: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """Means over the devices of each group; nothing where all are in one."""
    numbers = [int(number) for number in devices["group"]]
    groups = sorted({number for number in numbers if number >= 0})
    if len(groups) < 2:
        return {}
    found: dict[str, float] = {}
    for group in groups:
        found[f"group_{group}/n_devices"] = float(numbers.count(group))
        for name in PER_GROUP:
            pairs = zip(numbers, devices[name], strict=True)
            values = [float(value) for number, value in pairs if number == group and value is not None]
            if values:
                found[f"group_{group}/{name}"] = sum(values) / len(values)
    return found


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their key paths, such as ``training.local_steps``."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
