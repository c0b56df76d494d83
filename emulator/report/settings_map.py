"""Which adapter settings each device had in each round: the heat maps of depth and rank."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emulator.report.packing import packed, thinned

MOST_ROWS, MOST_COLUMNS = 320, 500
"""Devices and rounds of a heat map; beyond them an even choice is shown, since there are no more pixels."""


def settings_map(devices: pd.DataFrame) -> dict[str, Any]:
    """Depth and mean rank by device and round, devices in the order of their type and id; NaN outside the cohort.

    The rank of a device is the mean over those of its layers that carry an adapter.
    """
    facts = devices[["device_id", "profile"]].drop_duplicates("device_id").sort_values(["profile", "device_id"])
    facts = facts.iloc[thinned(len(facts), MOST_ROWS)]
    all_rounds = np.unique(devices["round_index"].to_numpy())
    rounds = all_rounds[thinned(len(all_rounds), MOST_COLUMNS)]
    shown = devices.loc[devices["round_index"].isin(rounds) & devices["device_id"].isin(facts["device_id"])]
    row_of = pd.Series(np.arange(len(facts)), index=facts["device_id"])
    row = shown["device_id"].map(row_of).to_numpy()
    column = np.searchsorted(rounds, shown["round_index"].to_numpy())
    depth = np.full((len(facts), len(rounds)), np.nan)
    rank = depth.copy()
    ranks = _mean_ranks(shown["ranks"])
    depth[row, column] = np.where(np.isnan(ranks), np.nan, shown["depth"].to_numpy(np.float64))
    rank[row, column] = ranks
    profiles = list(dict.fromkeys(facts["profile"]))
    return {
        "device": packed(facts["device_id"].to_numpy(), "i4"),
        "profiles": profiles,
        "profile": packed(np.array([profiles.index(name) for name in facts["profile"]]), "u1"),
        "round": packed(rounds, "i4"),
        "depth": packed(depth, "f4"),
        "rank": packed(rank, "f4"),
        "n_devices": int(devices["device_id"].nunique()),
        "n_rounds": len(all_rounds),
    }


def _mean_ranks(ranks: pd.Series) -> NDArray[np.float64]:
    """The mean of the ranks above 0 of each row, NaN where a row has none; flat, since rows may differ in length."""
    lengths = np.array([len(row) for row in ranks], dtype=np.int64)
    flat = np.array([rank for row in ranks for rank in row], dtype=np.float64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    total = np.bincount(rows, flat, len(lengths))
    count = np.bincount(rows, flat > 0, len(lengths))
    mean = np.full(len(lengths), np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean
