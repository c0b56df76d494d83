"""LoRA-FAIR: after averaging A and B, the server corrects B so that B A comes close to the mean of the products.

System
    LoRA-FAIR: Bian et al., "LoRA-FAIR: Federated LoRA Fine-Tuning with Aggregation and Initialization Refinement",
    arXiv 2411.14961.

Idea
    The mean of B times the mean of A is not the mean of B A. Sending the exact product costs either traffic or the
    continuity of the devices' adapters. LoRA-FAIR keeps LoRA's shapes: it adds to the mean of B what brings the product
    into the direction of the mean product, and no more than needed.

Mapping
    p_k -> ``shares``; Delta W = sum p_k B_k A_k -> never formed, only its product with the mean of A;
    Delta B -> the difference of :func:`corrected_b` to its first argument; lambda -> ``regularization``;
    1 - cos(Delta W, (B + Delta B) A) + lambda |Delta B| -> :func:`objective` (from a public note on the paper).

Deviations
    1. The server's SGD on Delta B is gradient descent with a step that is halved until the objective falls; the paper's
       step and number of steps are not stated in what was at hand. Delta B is measured in units of the mean of B, so
       that lambda means the same for large and small adapters.
    2. The trained part of the classification head travels with the adapters and is averaged like them.

Defaults
    regularization = 0.01: the paper's (from a public note). n_server_steps = 50: not stated; chosen because the
    objective hardly falls after that in the tests. rank = 8, all layers: those of the FedLoRA baseline; the paper
    uses rank 16 on vision transformers (from the note).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emulator.algorithms.aggregation import contributions, weighted_coordinate_mean
from emulator.forms.base import AdapterForm
from emulator.forms.lora import LoraForm, lora_plan, uniform_ranks
from emulator.policy import Count, NotNegative, Policy
from emulator.records import Arrays, ClusterView, RoundPlan, Update
from emulator.shapes.spec import ModelSpec

Matrix = NDArray[np.floating]


@dataclass(kw_only=True)
class LoraFair(Policy):
    """The same depth and rank on every device; the server corrects B.

    Args:
        rank: LoRA rank of every adapted layer.
        depth: how many layers are adapted, counted from the output; all where it is not given.
        regularization: how much a large correction counts, lambda.
        n_server_steps: steps of gradient descent per adapter and round.
    """

    rank: Count = 8
    depth: Count | None = None
    regularization: NotNegative = 0.01
    n_server_steps: Count = 50

    families = frozenset({"transformer", "encoder-decoder"})

    def form(self, model: ModelSpec) -> LoraForm:
        return LoraForm(ranks=uniform_ranks(model, self.rank, self.depth))

    def plan(self, view: ClusterView) -> RoundPlan:
        depth = self.depth or view.model.n_layers
        return lora_plan(view, self.form(view.model).ranks, dict.fromkeys(view.available, depth))

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        sent = contributions(form, state, updates)
        mean = weighted_coordinate_mean(state, sent)
        total = sum(one.weight for one in sent)
        for name_b in [name for name in mean if name.endswith("lora_B")]:
            name_a = name_b.removesuffix("B") + "A"
            holders = [one for one in sent if name_a in one.arrays and name_b in one.arrays]
            if not holders:
                continue
            mean_a = mean[name_a].astype(np.float64)
            inner = [one.weight / total * (one.arrays[name_a] @ mean_a.T) for one in holders]
            product = np.sum([one.arrays[name_b] @ small for one, small in zip(holders, inner, strict=True)], axis=0)
            corrected = corrected_b(mean[name_b], mean_a @ mean_a.T, product, self.regularization, self.n_server_steps)
            mean[name_b] = corrected.astype(np.float32)
        return mean


def objective(correction: Matrix, mean_b: Matrix, gram: Matrix, product: Matrix, regularization: float) -> float:
    """``1 - cos(Delta W, (B + Delta B) A) + lambda |Delta B| / |B|``, up to the constant norm of Delta W in the cosine.

    Args:
        correction: Delta B, (out, r).
        mean_b: the mean of B, (out, r).
        gram: A A^T of the mean A, (r, r).
        product: Delta W A^T, (out, r). With it and ``gram`` no matrix of the weight's size is needed.
        regularization: lambda.
    """
    b = mean_b + correction
    cosine = np.sum(b * product) / _norm_of_product(b, gram)
    return float(-cosine / _scale(gram, product) + regularization * _norm(correction) / _norm(mean_b))


def corrected_b(mean_b: Matrix, gram: Matrix, product: Matrix, regularization: float, n_steps: int) -> Matrix:
    """``B + Delta B`` after ``n_steps`` of descent on :func:`objective`; arguments as there."""
    b = mean_b.astype(np.float64)
    correction = np.zeros_like(b)
    if not _norm_of_product(b, gram) or not product.any():
        return b  # nothing to correct, and no direction to correct it in
    step = _norm(b) ** 2
    value = objective(correction, b, gram, product, regularization)
    for _ in range(n_steps):
        slope = _slope(correction, b, gram, product, regularization)
        while True:
            proposed = correction - step * slope
            proposed_value = objective(proposed, b, gram, product, regularization)
            if proposed_value <= value:
                break
            step /= 2
            if step < 1e-12 * _norm(b) ** 2:
                return b + correction
        correction, value, step = proposed, proposed_value, step * 1.5
    return b + correction


def _slope(correction: Matrix, mean_b: Matrix, gram: Matrix, product: Matrix, regularization: float) -> Matrix:
    b = mean_b + correction
    norm = _norm_of_product(b, gram)
    of_cosine = product / norm - np.sum(b * product) / norm**3 * (b @ gram)
    length = _norm(correction)
    of_length = correction / length if length else np.zeros_like(correction)
    slope: Matrix = -of_cosine / _scale(gram, product) + regularization * of_length / _norm(mean_b)
    return slope


def _norm_of_product(b: Matrix, gram: Matrix) -> float:
    """``|B A|`` from ``A A^T`` alone."""
    return float(np.sqrt(max(0.0, np.sum((b @ gram) * b))))


def _scale(gram: Matrix, product: Matrix) -> float:
    """``|Delta W|`` within the rows of A: the largest that the numerator of the cosine can be."""
    return float(np.sqrt(max(np.sum(product * (product @ np.linalg.pinv(gram))), np.finfo(np.float64).tiny)))


def _norm(matrix: Matrix) -> float:
    return float(np.linalg.norm(matrix))
