"""The fixed schemas are documented, and promise what users rely on."""

import pyarrow as pa
import pytest

from emulator.results import schemas

REQUIRED_DEVICES = """round_index device_id profile power_mode status depth ranks n_steps batch_size start_s download_s
compute_s upload_s waiting_s download_bytes upload_bytes peak_memory_bytes energy_j train_loss"""
REQUIRED_ROUNDS = """round_index start_s end_s accuracy loss n_ok mean_waiting_s download_bytes upload_bytes energy_j"""
UNIT_OF_SUFFIX = {"_bytes_per_s": "byte/s", "_bytes": "byte", "_flop": "FLOP", "_s": "s", "_j": "J"}


@pytest.mark.parametrize("table", schemas.SCHEMAS)
def test_every_column_says_its_unit_and_meaning(table: str) -> None:
    for field in schemas.SCHEMAS[table]:
        assert set(field.metadata) == {b"unit", b"description"}
        assert field.metadata[b"description"].endswith(b".")


@pytest.mark.parametrize("table", schemas.SCHEMAS)
def test_the_unit_of_a_column_is_the_one_in_its_name(table: str) -> None:
    for name, unit in schemas.units(table).items():
        suffix = next((suffix for suffix in UNIT_OF_SUFFIX if name.endswith(suffix)), "")
        assert unit == UNIT_OF_SUFFIX.get(suffix, unit), name
        assert (unit in UNIT_OF_SUFFIX.values()) == (suffix != "") or name == "n_bytes", name


def test_every_table_says_what_it_is_and_its_version() -> None:
    for schema in schemas.SCHEMAS.values():
        assert schema.metadata[b"schema_version"] == b"1"
        assert schema.metadata[b"description"]


def test_promised_columns_are_there() -> None:
    assert set(REQUIRED_DEVICES.split()) <= set(schemas.SCHEMAS["devices"].names)
    assert set(REQUIRED_ROUNDS.split()) <= set(schemas.SCHEMAS["rounds"].names)


def test_wall_clock_is_in_the_host_table_alone() -> None:
    with_wall_clock = [name for name, schema in schemas.SCHEMAS.items() if "wall_s" in schema.names]
    assert with_wall_clock == ["host"]


def test_text_is_plain_so_that_every_reader_opens_it() -> None:
    types = {field.type for schema in schemas.SCHEMAS.values() for field in schema}
    assert types == {
        pa.int32(),
        pa.int64(),
        pa.float64(),
        pa.list_(pa.float64()),
        pa.string(),
        pa.list_(pa.int32()),
        pa.map_("string", "double"),
    }
