"""MergeSFL: one top for all devices, batches by what a device can do, devices whose labels together are balanced.

System
    Liao et al., "MergeSFL: Split Federated Learning with Feature Merging and Batch Size Regulation", ICDE 2024, arXiv
    2311.13348. Of the paper the abstract was at hand, and the authors' released code, in which selection and batch
    sizes are a stub (random devices, one batch size). Each formula below says what it rests on.

Idea
    The model is cut: devices train its bottom, the server its top. The server joins the features of all devices of a
    step into one batch, so that the top sees nearly balanced labels, and gives slow devices smaller batches, so that
    nobody waits. A genetic search chooses devices whose labels, weighted by their batches, come close to those of all.

Mapping
    D -> ``training.batch_size``; d_i -> ``batch_size`` of an assignment; mu_i, beta_i -> ``Capacity`` of
    one sample; rho -> ``smoothing``;
    tau -> ``training.local_steps``; KL(Phi || Phi_0) <= epsilon -> ``divergence_bound``; B^h -> ``ingress_batches`` (in
    batches of D samples); the waiting bound -> ``waiting_fraction``. Merging and dispatch (sourced: released code) ->
    ``emulator.learning.cut``; step by step -> ``emulator.protocols.cut.CutRounds``.

Deviations
    1. The control algorithm is from memory in its outline and reconstructed in its parameters: the estimator, the
       regulation d_i = floor(D (mu_l + beta_l) / (mu_i + beta_i)), the divergence and the budget are from memory; the
       genetic search's operators and the greedy fine-tuning of batch sizes are reconstructed.
    2. In the first round every device takes one step with a full batch, so that the server has an estimate of each; the
       paper's devices report their state. A device without one counts as the median.
    3. Bottoms are averaged with weights d_i (from memory); the released code averages them plainly.
       ``scale_bottom_rate`` also makes a bottom's learning rate proportional to d_i / D (recalled with little
       confidence).
    4. On a transformer the bottom is the embeddings with the first layers, LoRA is what is trained, and by AdamW; the
       paper has CNNs, all of whose weights are trained by SGD, as here where the model is one.

Defaults
    smoothing = 0.8: from memory. n_selected = 10, rate_decay = 0.993, the floor of 0.05 (0.005 of 0.1): released code.
    ingress_batches = 10: not stated; as much as ten full batches. divergence_bound = 0.01, waiting_fraction = 0.05, cut
    = the first quarter of the layers, rank = 8: not stated; chosen before any run was made.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulator.algorithms.estimation import Capacities, Capacity, measured_capacity
from emulator.algorithms.genetic import SubsetSearch, Vector
from emulator.algorithms.grouping import kl_divergence, label_distributions, mixtures
from emulator.forms.cut import CutForm
from emulator.forms.cut_lora import cut_form
from emulator.policy import Count, Fraction, FractionAboveZero, NotNegative, Policy, Positive
from emulator.protocols.cut import CutRounds
from emulator.records import ANY_DEVICE, ClusterView, DeviceReport, RoundPlan, RoundReport, Status, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class MergeSfl(Policy):
    """Device selection and batch sizes for a split model with merged features.

    Args:
        cut: how many layers of a transformer lie below the cut; the first quarter where it is not given.
        rank: LoRA rank of every layer of a transformer.
        n_selected: at most so many devices take part in a round.
        ingress_batches: samples of a step that the server can take in, as a multiple of the batch size, B^h.
        smoothing: share of the old estimate in the estimator, rho.
        divergence_bound: divergence of the merged labels from those of all that need not be improved on, epsilon.
        waiting_fraction: by how much of its batch a device may fall short so that labels are balanced.
        rate_decay: factor of the learning rates per round.
        rate_floor: least learning rate, as a share of the first.
        scale_bottom_rate: whether a smaller batch means a smaller learning rate of the bottom.
    """

    cut: Count | None = None
    rank: Count = 8
    n_selected: Count = 10
    ingress_batches: Positive = 10.0
    smoothing: Fraction = 0.8
    divergence_bound: NotNegative = 0.01
    waiting_fraction: Fraction = 0.05
    rate_decay: FractionAboveZero = 0.993
    rate_floor: Fraction = 0.05
    scale_bottom_rate: bool = False

    declares = frozenset({"label_histogram"})
    families = frozenset({"transformer", "convnet"})
    protocol = CutRounds(merges=True)
    task = protocol.task

    _capacities: Capacities = field(init=False, repr=False)  # per sample
    _n_selected: dict[int, int] = field(default_factory=dict, init=False, repr=False)
    _most: dict[int, int] = field(default_factory=dict, init=False, repr=False)
    _batches: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._capacities = Capacities(self.smoothing)

    def form(self, model: ModelSpec) -> CutForm:
        return cut_form(model, rank=self.rank, cut=self.cut)

    def plan(self, view: ClusterView) -> RoundPlan:
        form, training = self.form(view.model), view.training
        full, n_steps = training.batch_size, training.n_steps
        if self._capacities.known:
            self._batches = self._chosen(view, form)
        else:  # nothing is known of anybody
            n_steps, self._batches = 1, {device: self._most.get(device, full) for device in view.available}
        rate = training.learning_rate * max(self.rate_floor, self.rate_decay**view.round_index)
        return RoundPlan(
            assignments={
                device: form.assignment(
                    device,
                    n_steps=n_steps,
                    batch_size=size,
                    learning_rate=rate * size / full if self.scale_bottom_rate else rate,
                    top_learning_rate=rate,
                    merges=self.protocol.merges,
                )
                for device, size in self._batches.items()
            }
        )

    def observe(self, report: RoundReport) -> None:
        for device, seen in report.devices.items():
            if seen.status is Status.OUT_OF_MEMORY:
                self._most[device] = max(1, self._batches[device] // 2)
        self._capacities.observe(report, lambda _, seen: capacity_per_sample(seen))

    def weight(self, update: Update) -> float:
        """``w = sum_i d_i w_i / sum_i d_i`` (from memory). All updates bring the same top."""
        return float(update.assignment.batch_size)

    def _chosen(self, view: ClusterView, form: CutForm) -> dict[int, int]:
        """The selected devices with their batch sizes."""
        devices, full = view.available, view.training.batch_size
        merges = self.protocol.merges
        one = form.assignment(
            ANY_DEVICE, n_steps=1, batch_size=1, learning_rate=1.0, top_learning_rate=1.0, merges=merges
        )
        n_bytes = form.step_download_bytes(one, view.model), form.step_upload_bytes(one, view.model)
        known_s = {device: known.completion_s(1, *n_bytes) for device, known in self._capacities.known.items()}
        median_s = float(np.median(list(known_s.values())))
        sample_s = np.array([known_s.get(device, median_s) for device in devices])  # mu_i + beta_i
        most = np.array([self._most.get(device, full) for device in devices])
        sizes = np.minimum(regulated_batches(sample_s, full), most)
        everybody = label_distributions(np.stack([view.declared[i]["label_histogram"] for i in range(view.n_devices)]))
        shares, reference = everybody[list(devices)], everybody.mean(axis=0)
        search = SubsetSearch(
            weights=sizes.astype(np.float64),
            priorities=np.array([1 / (1 + self._n_selected.get(device, 0)) for device in devices]),
            budget=self.ingress_batches * full,
            n_most=min(self.n_selected, len(devices)),
        )
        members = search.run(
            lambda masks: kl_divergence(mixtures(masks * search.weights, shares), reference),
            view.rng,
            good_enough=self.divergence_bound,
        )
        tuned = fine_tuned(sizes[members], shares[members], reference, self.waiting_fraction, self.divergence_bound)
        scaled = scaled_up(tuned, full, self.ingress_batches * full)
        chosen = {devices[i]: int(min(size, most[i])) for i, size in zip(members, scaled, strict=True)}
        for device in chosen:
            self._n_selected[device] = self._n_selected.get(device, 0) + 1
        return chosen


def capacity_per_sample(seen: DeviceReport) -> Capacity | None:
    """One round's measurement of a device, per sample (from memory); None of one that has taken no step."""
    return measured_capacity(seen, 1, inner_rounds=seen.n_steps * seen.batch_size) if seen.n_steps else None


def regulated_batches(sample_s: Vector, full: int) -> NDArray[np.int64]:
    """``d_i = floor(D (mu_l + beta_l) / (mu_i + beta_i))``, at least 1; ``l`` is the fastest device (from memory)."""
    sizes: NDArray[np.int64] = np.maximum(1, np.floor(full * sample_s.min() / sample_s)).astype(np.int64)
    return sizes


def fine_tuned(
    sizes: NDArray[np.int64], shares: Vector, reference: Vector, slack_fraction: float, bound: float
) -> NDArray[np.int64]:
    """Batch sizes at most ``slack_fraction`` smaller, one sample at a time where that lowers the divergence most.

    Greedy, until the divergence is at most ``bound`` or nothing lowers it (reconstructed).
    """
    sizes, least = sizes.copy(), np.maximum(1, np.ceil((1 - slack_fraction) * sizes))
    while (found := float(kl_divergence(mixtures(sizes.astype(float), shares), reference))) > bound:
        fewer = sizes - np.eye(len(sizes), dtype=np.int64)
        trials = np.where(sizes > least, kl_divergence(mixtures(fewer.astype(float), shares), reference), np.inf)
        if trials.min() >= found:
            break
        sizes = fewer[int(np.argmin(trials))]
    return sizes


def scaled_up(sizes: NDArray[np.int64], full: int, budget: float) -> NDArray[np.int64]:
    """All batches larger by one factor, as far as the budget and the full batch allow (from memory)."""
    factor = max(1.0, min(full / sizes.max(), budget / sizes.sum()))
    scaled: NDArray[np.int64] = np.floor(sizes * factor + 1e-9).astype(np.int64)
    return scaled
