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
       genetic search's operators and the fine-tuning of batch sizes are reconstructed. Numbers of equations are those
       that a third party's design of the algorithm gives ("MergeSFL Algorithm 1", a public repository).
    2. ``start = "declared"``: devices report their state (equations 5 and 6), so a device of which nothing was measured
       counts by the rate of its board, at the median of what the others make of theirs; links are known once they were
       used. ``"probe"`` is a first round in which every device takes one step with a full batch and all wait for the
       slowest, and in which a device without an estimate counts as the median.
    3. Bottoms are averaged with weights d_i (from memory); the released code averages them plainly.
       ``scale_bottom_rate`` also makes a bottom's learning rate proportional to d_i / D (recalled with little
       confidence).
    4. On a transformer the bottom is the embeddings with the first layers, LoRA is what is trained, and by AdamW; the
       paper has CNNs, all of whose weights are trained by SGD, as here where the model is one.
    5. The cohort is bounded by what the server can take in alone (equation 10); ten devices are what the stub of the
       released code draws. ``n_selected = 10`` is that cap.
    6. ``regulation = "both_ways"`` is equation 14: batches rise or fall by samples until the divergence is at most
       epsilon, at the least mean added time; then all are scaled by one factor to what the server can take in. The
       paper's solver (a Lagrange dual) is not known; here the sample that lowers the divergence most for the time that
       it adds goes first. ``"shrink"`` lets batches fall by ``waiting_fraction`` at most.
    7. ``counts_bottom``: d_i is what a device manages in the time that the transfer of its bottom leaves it, such that
       all end at once; equations 7 to 9 count samples alone, as if the bottom were small beside tau batches of
       features.

Defaults
    smoothing = 0.8: from memory. rate_decay = 0.993, the floor of 0.05 (0.005 of 0.1): released code. ingress_batches =
    10: not stated; as much as ten full batches. divergence_bound = 0.01, waiting_fraction = 0.05, cut = the first
    quarter of the layers, rank = 8: not stated; chosen before any run was made. n_selected = 1000: more than the budget
    admits on any testbed here, that is no cap.
"""

from dataclasses import dataclass, field
from typing import Literal

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
        start: how the server begins: by what boards declare, or with a round that probes all.
        n_selected: at most so many devices take part in a round.
        ingress_batches: samples of a step that the server can take in, as a multiple of the batch size, B^h.
        smoothing: share of the old estimate in the estimator, rho.
        divergence_bound: divergence of the merged labels from those of all that need not be improved on, epsilon.
        regulation: whether batches rise and fall for the sake of labels, or only shrink.
        waiting_fraction: by how much of its batch a device may fall short where they only shrink.
        counts_bottom: whether batches allow for the time that a device's bottom travels.
        rate_decay: factor of the learning rates per round.
        rate_floor: least learning rate, as a share of the first.
        scale_bottom_rate: whether a smaller batch means a smaller learning rate of the bottom.
    """

    cut: Count | None = None
    rank: Count = 8
    start: Literal["declared", "probe"] = "declared"
    n_selected: Count = 1000
    ingress_batches: Positive = 10.0
    smoothing: Fraction = 0.8
    divergence_bound: NotNegative = 0.01
    regulation: Literal["both_ways", "shrink"] = "both_ways"
    waiting_fraction: Fraction = 0.05
    counts_bottom: bool = True
    rate_decay: FractionAboveZero = 0.993
    rate_floor: Fraction = 0.05
    scale_bottom_rate: bool = False

    declares = frozenset({"label_histogram", "flop_per_s"})
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
        if self._capacities.known or self.start == "declared":
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
        sample_s, bottom_s = self._expected_s(view, form)
        most = np.array([self._most.get(device, full) for device in devices])
        sizes = np.minimum(regulated_batches(sample_s, full, bottom_s / view.training.n_steps), most)
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
        if self.regulation == "both_ways":
            tuned = retuned(
                sizes[members],
                most[members],
                shares[members],
                reference,
                sample_s[members],
                bottom_s[members] / view.training.n_steps,
                self.ingress_batches * full,
                self.divergence_bound,
            )
        else:
            tuned = fine_tuned(sizes[members], shares[members], reference, self.waiting_fraction, self.divergence_bound)
        scaled = scaled_up(tuned, full, self.ingress_batches * full)
        chosen = {devices[i]: int(min(size, most[i])) for i, size in zip(members, scaled, strict=True)}
        for device in chosen:
            self._n_selected[device] = self._n_selected.get(device, 0) + 1
        return chosen

    def _expected_s(self, view: ClusterView, form: CutForm) -> tuple[Vector, Vector]:
        """Seconds of a sample (mu_i + beta_i) and of the bottom's way there and back, of each available device."""
        one = form.assignment(
            ANY_DEVICE,
            n_steps=1,
            batch_size=1,
            learning_rate=1.0,
            top_learning_rate=1.0,
            merges=self.protocol.merges,
        )
        per_sample = form.step_download_bytes(one, view.model), form.step_upload_bytes(one, view.model)
        bottom = form.download_bytes(one, view.model), form.upload_bytes(one, view.model)
        known = self._capacities.known
        # What is not known of a device is what it would take at the median of what others make of their rates.
        if self.start == "declared":
            rates = {device: float(view.declared[device]["flop_per_s"]) for device in range(view.n_devices)}
        else:
            rates = dict.fromkeys(range(view.n_devices), 1.0)
        known_s = {device: each.completion_s(1, *per_sample) for device, each in known.items()}
        per_rate = float(np.median([seconds * rates[device] for device, seconds in known_s.items()] or [1.0]))
        sample_s = np.array([known_s.get(device, per_rate / rates[device]) for device in view.available])
        if not self.counts_bottom:
            return sample_s, np.zeros(len(sample_s))
        known_bottom_s = {device: each.transfer_s(*bottom) for device, each in known.items()}
        median_s = float(np.median(list(known_bottom_s.values()) or [0.0]))
        return sample_s, np.array([known_bottom_s.get(device, median_s) for device in view.available])


def capacity_per_sample(seen: DeviceReport) -> Capacity | None:
    """One round's measurement of a device, per sample (from memory); None of one that has taken no step."""
    return measured_capacity(seen, 1, inner_rounds=seen.n_steps * seen.batch_size) if seen.n_steps else None


def regulated_batches(sample_s: Vector, full: int, fixed_s: Vector | float = 0.0) -> NDArray[np.int64]:
    """``d_i = floor(D (mu_l + beta_l) / (mu_i + beta_i))``, from 1 to D; ``l`` is the fastest device (from memory).

    With the ``fixed_s`` of a step, such as its share of the bottom's transfer, ``d_i = floor((t_l - fixed_i) / (mu_i +
    beta_i))``, where ``t_l`` is the shortest time that a device takes for them and a full batch.
    """
    shortest_s = (fixed_s + full * sample_s).min()
    # A quotient of the fastest's own numbers may lie a rounding below D.
    manageable = np.floor((shortest_s - fixed_s) / sample_s + 1e-9)
    sizes: NDArray[np.int64] = np.clip(manageable, 1, full).astype(np.int64)
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


def retuned(
    sizes: NDArray[np.int64],
    most: NDArray[np.int64],
    shares: Vector,
    reference: Vector,
    sample_s: Vector,
    fixed_s: Vector,
    budget: float,
    bound: float,
) -> NDArray[np.int64]:
    """Batch sizes whose merged labels diverge by at most ``bound``, at little added time (equation 14; reconstructed).

    One sample more or less at a time, from 1 to ``most`` and within the ``budget``: the one that lowers the divergence
    most for the mean added time, ``mean_i(max_j t_j - t_i)`` with ``t_i = fixed_i + d_i sample_i``; one that adds no
    time goes first. Until the divergence is at most ``bound`` or nothing lowers it.

    Args:
        sizes: ``(n_members,)``, the batches to begin with.
        most: the largest batch of each.
        shares: ``(n_members, n_labels)``, the label distribution of each.
        reference: ``(n_labels,)``, the distribution of all.
        sample_s: seconds of a sample.
        fixed_s: seconds of a step beside its samples.
        budget: the most samples of a step.
        bound: the divergence, in nat, that is low enough.
    """
    sizes, one = sizes.copy(), np.eye(len(sizes), dtype=np.int64)

    def added_s(trials: NDArray[np.int64]) -> Vector:
        times_s: Vector = fixed_s + trials * sample_s
        mean_s: Vector = times_s.max(axis=-1) - times_s.mean(axis=-1)
        return mean_s

    while (found := float(kl_divergence(mixtures(sizes.astype(float), shares), reference))) > bound:
        trials = np.concatenate((sizes + one, sizes - one))
        allowed: NDArray[np.bool_] = np.asarray((trials >= 1).all(axis=1) & (trials <= most).all(axis=1))
        allowed[: len(sizes)] &= sizes.sum() + 1 <= budget
        gains = found - kl_divergence(mixtures(trials.astype(float), shares), reference)
        allowed &= gains > 1e-12  # beyond rounding
        if not allowed.any():
            break
        costs_s = np.maximum(added_s(trials) - added_s(sizes), 1e-9 * sample_s.min())
        sizes = trials[int(np.argmax(np.where(allowed, gains / costs_s, -np.inf)))]
    return sizes


def scaled_up(sizes: NDArray[np.int64], full: int, budget: float) -> NDArray[np.int64]:
    """All batches larger by one factor, as far as the budget and the full batch allow (from memory)."""
    factor = max(1.0, min(full / sizes.max(), budget / sizes.sum()))
    scaled: NDArray[np.int64] = np.floor(sizes * factor + 1e-9).astype(np.int64)
    return scaled
