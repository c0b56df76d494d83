"""The run by hand, for the tests of what writes and reads it."""

from tests.run_by_hand import frames, one_device_columns, round_tables, run_dir, write_run

__all__ = ["frames", "one_device_columns", "round_tables", "run_dir", "write_run"]
