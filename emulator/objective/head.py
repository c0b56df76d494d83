"""What objectives share whose model has a head on top of its last layer."""

from collections.abc import Mapping
from typing import Any

from emulator.objective.base import Objective
from emulator.shapes.catalog import Head, model_spec, model_spec_from_config
from emulator.shapes.spec import ModelSpec


class HeadObjective(Objective):
    """An encoder or decoder reads a text, or a pair, and a head says something of the whole."""

    def spec(
        self,
        name: str,
        *,
        n_labels: int,
        seq_len: int,
        head: Head,
        seq_len_key: str = "data.seq_len",
        config: Mapping[str, Any] | None = None,
        like: ModelSpec | None = None,
    ) -> ModelSpec:
        n_outputs = self.n_outputs(n_labels)
        if config is None:
            return model_spec(name, n_labels=n_outputs, seq_len=seq_len, head=head, seq_len_key=seq_len_key)
        return model_spec_from_config(
            config, name=name, n_labels=n_outputs, seq_len=seq_len, head=head, seq_len_key=seq_len_key
        )
