"""The environment in which models are loaded and hosts run: libraries neither talk nor start threads of their own."""

import os

ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Read by the libraries when they are imported."""


def set_environment() -> dict[str, str]:
    """Set :data:`ENVIRONMENT` in this process, where the user has not set it otherwise; what holds is returned."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    return {name: os.environ[name] for name in ENVIRONMENT}
