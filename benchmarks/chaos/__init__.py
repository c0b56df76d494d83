"""Whether a study survives whatever dies: ``python -m benchmarks.chaos --kills 40 --seed 0``."""
