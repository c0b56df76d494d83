"""A model's config.json read by type, and the shapes that a family's reader makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emulator.errors import ConfigError
from emulator.shapes.design import LayerDesign
from emulator.shapes.spec import LinearShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Shapes:
    """What a family's config says.

    ``head`` holds the head's maps under their module paths in transformers, the output map last;
    ``n_other_parameters`` counts all but the head, a pooler, and the linear maps and norms of the layers; of it,
    ``n_layer_extras`` lie in each layer. ``n_encoder_layers`` and ``n_other_encoder_parameters`` are those of an
    encoder-decoder's encoder.
    """

    n_layers: int
    hidden_size: int
    n_heads: int
    n_kv_heads: int
    head_size: int
    intermediate_size: int
    n_other_parameters: int
    head: Mapping[str, LinearShape]
    max_seq_len: int
    is_decoder: bool = False
    gated_mlp: bool = False
    n_pooler_parameters: int = 0
    design: LayerDesign | None = None
    n_layer_extras: int = 0
    n_encoder_layers: int = 0
    n_other_encoder_parameters: int = 0


class ConfigReader:
    """A config.json whose keys are taken by type."""

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        self._config = config
        self._name = name

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._config.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigError(f"model {self._name}: config.json needs {key}, a whole number, got {value!r}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._config.get(key)
        value = default if value is None else value
        if not isinstance(value, str):
            raise ConfigError(f"model {self._name}: config.json needs {key}, a text, got {value!r}")
        return value

    def positive(self, key: str) -> int:
        """A number of things; 0 where it is negative or not given, so that there are none."""
        value = self._config.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ConfigError(f"model {self._name}: config.json needs {key}, a whole number, got {value!r}")
        return max(value or 0, 0)

    def texts(self, key: str) -> list[str]:
        """A list of words, or a text of them with bars between."""
        value = self._config.get(key) or []
        return [str(each).strip().lower() for each in (value.split("|") if isinstance(value, str) else value)]

    def error(self, needs: str) -> ConfigError:
        """To be raised where the config.json does not have what its family needs."""
        return ConfigError(f"model {self._name}: config.json needs {needs}")

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._config.get(key)
        return default if value is None else bool(value)
