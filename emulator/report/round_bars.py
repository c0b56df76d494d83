"""Who did what when in a few rounds of a run: the bars of its timeline."""

from typing import Any

import numpy as np
import pandas as pd

from emulator.records import ActivityKind
from emulator.report.packing import packed, thinned

MOST_ROUNDS = 5
MOST_DEVICES = 160
MOST_BARS = 4_000
"""Bars of one round; a browser draws some thousands at once without delay."""

KINDS = tuple(str(kind) for kind in ActivityKind)


def shown_rounds(rounds: pd.DataFrame) -> list[int]:
    """Rounds spread evenly over a run, its first and last among them."""
    indices = rounds["round_index"].to_numpy()
    return [int(indices[position]) for position in thinned(len(indices), MOST_ROUNDS)]


def round_bars(
    round_index: int, rounds: pd.DataFrame, devices: pd.DataFrame, activities: pd.DataFrame
) -> dict[str, Any]:
    """One round: the devices from bottom to top, by type and within a type by how long they wait, and their bars."""
    of_round = rounds.loc[rounds["round_index"] == round_index].iloc[0]
    rows = devices.loc[devices["round_index"] == round_index]
    rows = rows.sort_values(["profile", "waiting_s", "device_id"], ascending=[False, True, True], ignore_index=True)
    n_all = len(rows)
    bars = activities.loc[activities["round_index"] == round_index]
    # Devices with many inner rounds have many bars; then fewer of them are drawn, each of them whole.
    n_shown = min(MOST_DEVICES, max(1, n_all * MOST_BARS // max(1, len(bars))))
    rows = rows.iloc[thinned(n_all, n_shown)].reset_index(drop=True)
    bars = bars.loc[bars["device_id"].isin(rows["device_id"])]
    position = pd.Series(np.arange(len(rows)), index=rows["device_id"])
    profiles = list(dict.fromkeys(rows["profile"]))
    return {
        "round": round_index,
        "length_s": float(of_round["end_s"] - of_round["start_s"]),
        "n_devices": n_all,
        "device": packed(rows["device_id"].to_numpy(), "i4"),
        "profiles": profiles,
        "profile": packed(np.array([profiles.index(name) for name in rows["profile"]]), "u1"),
        "status": [str(status) for status in rows["status"]],
        "depth": packed(rows["depth"].to_numpy(), "u2"),
        "kind": packed(np.array([KINDS.index(kind) for kind in bars["kind"]]), "u1"),
        "row": packed(bars["device_id"].map(position).to_numpy(), "u2"),
        "start_s": packed((bars["start_s"] - of_round["start_s"]).to_numpy(), "f4"),
        "span_s": packed((bars["end_s"] - bars["start_s"]).to_numpy(), "f4"),
        "n_bytes": packed(bars["n_bytes"].to_numpy(), "f4"),
        "energy_j": packed(bars["energy_j"].to_numpy(), "f4"),
    }
