"""The run by hand, for the tests of what shows it."""

from tests.run_by_hand import frames, run_dir, write_run

__all__ = ["frames", "run_dir", "write_run"]
