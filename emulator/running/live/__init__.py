"""Live devices: what becomes of a testbed whose devices really compute and really transfer, at their own pace."""
