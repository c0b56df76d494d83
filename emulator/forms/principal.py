"""LoRA that starts as the principal part of the pre-trained weights, beside the rest of them, which stays frozen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emulator.forms.base import FrozenWeights, Site
from emulator.forms.lora import adapter_name
from emulator.forms.residual import ResidualLoraForm, residual_name
from emulator.records import Arrays


@dataclass(frozen=True, kw_only=True)
class PrincipalLoraForm(ResidualLoraForm):
    """``(W - W_r) x + scaling · B A x``, at the start with ``scaling · B A = W_r``, the best approximation of rank r.

    With ``W = U S V'``, ``B = U_r (S_r / scaling)^(1/2)`` and ``A = (S_r / scaling)^(1/2) V_r'``. What is taken from
    ``W`` is the residual, ``-W_r``, which nobody trains. A device works all of it out by itself from the weights that
    it has, so that none of it travels.
    """

    def sites_at_start(self) -> Sequence[Site]:
        return tuple(self.sites())

    def fitted(self, arrays: Arrays, weights: FrozenWeights) -> Arrays:
        fitted = dict(arrays)
        for (layer, target), weight in weights.items():
            rank = self.ranks[layer]
            left, sizes, right = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
            root = np.sqrt(sizes[:rank] / self.scaling)
            lora_b = (left[:, :rank] * root).astype(np.float32)
            lora_a = (root[:, None] * right[:rank]).astype(np.float32)
            fitted[adapter_name(layer, target, "lora_B")] = lora_b
            fitted[adapter_name(layer, target, "lora_A")] = lora_a
            # Of the rounded factors, so that both cancel.
            taken = self.scaling * (lora_b.astype(np.float64) @ lora_a)
            fitted[residual_name(layer, target)] = (-taken).astype(np.float32)
        return fitted
