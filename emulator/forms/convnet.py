"""A convnet that is cut: the device holds the layers below the cut, the server those behind it.

All weights are trained and shipped, as in SplitFed (arXiv 2004.12088) and MergeSFL (arXiv 2311.13348). What crosses the
cut in a step are the features of the batch, and as many numbers as their gradient.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.forms.base import Embedded
from emulator.forms.cut import CutForm, check_cut
from emulator.forms.lora import BYTES_PER_PARAMETER
from emulator.records import Arrays, Assignment, Update, Work, WorkKind
from emulator.seeds import Seeds
from emulator.shapes.convnet import ConvNetSpec
from emulator.shapes.spec import ModelSpec

BOTTOM, TOP = "bottom", "top"


@dataclass(frozen=True, kw_only=True)
class ConvNetForm(CutForm):
    """The weights of a convnet, with names such as ``bottom.conv1.weight`` and ``top.linear1.bias``.

    Where the cut lies is a property of the convnet. So the trained and the priced one may have any number of layers.
    """

    attachment: ClassVar[str] = "emulator.learning.attach.convnet:ConvNetWeights"

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        """Weights uniform in ±sqrt(6 / fan_in) (He et al. 2015, arXiv 1502.01852, equation 10), biases zero."""
        rng = seeds.rng("network_initialisation")
        arrays: dict[str, NDArray[np.float32]] = {}
        convnet = _convnet(model)
        for number, layer in enumerate(convnet.layers):
            name = f"{BOTTOM if number < convnet.cut else TOP}.{layer.name}"
            bound = math.sqrt(6 / math.prod(layer.weight[1:]))
            arrays[f"{name}.weight"] = rng.uniform(-bound, bound, layer.weight).astype(np.float32)
            arrays[f"{name}.bias"] = np.zeros(layer.weight[0], np.float32)
        return arrays

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        return {name: array for name, array in state.items() if name.startswith(f"{BOTTOM}.")}

    def embed(self, update: Update, state: Arrays) -> Embedded:
        return Embedded(update.payload)

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        return self._work(assignment, _convnet(model).cut)

    def whole_work(self, assignment: Assignment, model: ModelSpec) -> Work:
        return self._work(assignment, model.n_layers)

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return BYTES_PER_PARAMETER * _convnet(model).n_bottom_parameters

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return self.download_bytes(assignment, model)

    def step_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return BYTES_PER_PARAMETER * assignment.batch_size * _convnet(model).n_features

    def is_trained(self, name: str, assignment: Assignment, model: ModelSpec) -> bool:
        return True

    def check_model(self, model: ModelSpec) -> None:
        if not isinstance(model, ConvNetSpec):
            raise ValueError(f"{type(self).__name__} is for convnets")

    def check(self, assignment: Assignment, model: ModelSpec) -> None:
        check_cut(assignment)

    def _work(self, assignment: Assignment, n_layers: int) -> Work:
        return Work(
            n_steps=assignment.n_steps,
            batch_size=assignment.batch_size,
            seq_len=1,
            forward_layers=n_layers,
            backward_layers=n_layers,
            kind=WorkKind.WEIGHTS,
        )


def _convnet(model: ModelSpec) -> ConvNetSpec:
    assert isinstance(model, ConvNetSpec)  # check_model() has refused anything else
    return model
