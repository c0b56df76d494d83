"""What a configuration's relative paths mean on another machine, or in another working directory."""

from device_profiles.text_files import user_path
from emulator.config import Config


def located(config: Config) -> Config:
    """``config`` with the paths of what hosts load made absolute, by this process's working directory.

    What is no file or folder here stays as it is: a name, a hub id, or a path that the host will say is missing.
    """
    data, model = config.data, config.model
    return config.model_copy(
        update={
            "data": data.model_copy(
                update={
                    "source": _located(data.source),
                    "test_source": data.test_source and _located(data.test_source),
                }
            ),
            "model": model.model_copy(update={"train": _located(model.train)}),
        }
    )


def _located(given: str) -> str:
    path = user_path(given)
    try:
        return str(path.absolute()) if path.exists() else given
    except (OSError, ValueError):  # a name that no file can have
        return given
