"""The learning side of a convnet's weights: how they are written for other software."""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.numpy import save_file

from emulator.forms.base import AdapterForm
from emulator.records import Arrays
from emulator.shapes.convnet import ConvNetSpec


class ConvNetWeights:
    """Writes ``model.safetensors`` with all weights by name, and ``network.json`` with the layers they belong to."""

    @staticmethod
    def export(model: ConvNetSpec, form: AdapterForm, state: Arrays, folder: Path) -> None:
        """Writes the server state: bottom and top."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(state), folder / "model.safetensors")
        layers = [asdict(layer) for layer in model.layers]
        text = json.dumps({"name": model.name, "cut": model.cut, "layers": layers}, indent=2)
        (folder / "network.json").write_text(f"{text}\n", encoding="utf-8")
