"""A column that a ledger or report has is filled as soon as its schema names it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

import emulator
from emulator.results import arrow_tables, rows
from emulator.results.schemas import SCHEMAS

SETTINGS = {
    "policy.path": "fedlora",
    "rounds": 2,
    "testbed.n_devices": 4,
    "training.enabled": False,
    "backend.kind": "inline",
}
ADDED = {
    "devices": pa.field("computed_share", pa.float64(), nullable=False),
    "rounds": pa.field("n_idle", pa.int32(), nullable=False),
}


def test_a_column_that_is_added_to_a_schema_alone_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longer = {table: schema.append(ADDED[table]) if table in ADDED else schema for table, schema in SCHEMAS.items()}
    for module in (rows, arrow_tables):
        monkeypatch.setattr(module, "SCHEMAS", longer)

    emulator.emulate(SETTINGS, tmp_path / "run")
    devices, rounds = (ds.dataset(tmp_path / "run" / table, format="parquet").to_table() for table in ADDED)

    # All four devices are asked for one inner round each time.
    assert devices["computed_share"].to_pylist() == [1.0] * 8
    assert rounds["n_idle"].to_pylist() == [0, 0]


def test_a_column_that_nobody_has_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = SCHEMAS["devices"].append(pa.field("colour", pa.string()))
    monkeypatch.setattr(rows, "SCHEMAS", {**SCHEMAS, "devices": unknown})

    with pytest.raises(AttributeError, match="colour"):
        emulator.emulate(SETTINGS, tmp_path / "run")
