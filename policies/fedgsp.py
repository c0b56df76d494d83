"""FedGSP: chains of devices that train one after another, few and long at first, many and short later.

System
    FedGSP: Zeng et al., "Heterogeneous Federated Learning via Grouped Sequential-to-Parallel Training", DASFAA 2022,
    arXiv 2201.12976. Growth and grouping were seen in a third party's code.

Idea
    Training one device after another bears data that differ from device to device better than averaging does, but it
    takes long. So the model goes through each group device by device, groups work side by side, and their number grows
    from round to round: sequential while much is to be learned, parallel later. Each group is put together so that its
    data resemble those of all.

Mapping
    M_r = min(beta f(r), n) -> ``n_groups``, with f linear, log or exp; k = floor(n / M_r) clusters of M_r devices with
    like labels -> ``equal_clusters``; a group, one device of each cluster by lot -> ``inter_cluster_groups``; training
    within a group -> :class:`emulator.protocols.chained.ChainedRounds`; the mean of the groups ->
    ``aggregate_groups``.

Deviations
    1. Clusters of equal size are filled by the nearest pairs of device and centre first; the third party's code assigns
       by minimum-cost flow. Both repeat it at most ten times.
    2. LoRA adapters and the trained part of the head go along the chain; the paper trains whole models.
    3. Groups are weighted by their members' numbers of examples; the third party's code averages them evenly.
    4. Every device is one place of a chain, so that a round costs a download and an upload for each, and the longest
       chain's sum of all of them in time (reconstructed).

Defaults
    first_groups = 4, growth = "log", growth_rate = 2: not stated for 80 devices and 20 rounds; chosen so that 4 chains
    of 20 devices become 24 of 3 or 4. rank = 8, all layers: those of the FedLoRA baseline.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emulator.forms.lora import LoraForm, lora_plan, uniform_ranks
from emulator.policy import Count, Policy, Positive
from emulator.protocols.chained import ChainedRounds
from emulator.records import ClusterView, Group, RoundPlan
from emulator.shapes.spec import ModelSpec

MOST_PASSES = 10
"""How often centres and clusters are brought into line."""

Growth = Literal["linear", "log", "exp"]


@dataclass(kw_only=True)
class FedGsp(Policy):
    """The same rank and depth on every device, one after another within groups whose number grows.

    Args:
        first_groups: groups in the first round, beta.
        growth: how their number grows, linear, log or exp.
        growth_rate: how fast, alpha.
        rank: LoRA rank of every adapted layer.
        depth: how many layers are adapted, counted from the output; all where it is not given.
    """

    first_groups: Count = 4
    growth: Growth = "log"
    growth_rate: Positive = 2.0
    rank: Count = 8
    depth: Count | None = None

    declares = frozenset({"label_histogram"})
    protocol = ChainedRounds()

    families = frozenset({"transformer", "encoder-decoder"})

    def form(self, model: ModelSpec) -> LoraForm:
        return LoraForm(ranks=uniform_ranks(model, self.rank, self.depth))

    def plan(self, view: ClusterView) -> RoundPlan:
        depth = self.depth or view.model.n_layers
        plan = lora_plan(view, uniform_ranks(view.model, self.rank, self.depth), dict.fromkeys(view.available, depth))
        wanted = n_groups(view.round_index + 1, self.growth, self.growth_rate, self.first_groups)
        histograms = np.array([view.declared[device]["label_histogram"] for device in view.available], np.float64)
        groups = inter_cluster_groups(histograms, min(wanted, len(view.available)), view.rng)
        members = [tuple(view.available[place] for place in group) for group in groups]
        return RoundPlan(assignments=plan.assignments, groups=tuple(Group(members=each) for each in members))


def n_groups(number: int, growth: Growth, rate: float, first: int) -> int:
    """``beta f(r)`` of the round ``number``, counted from 1 (sourced: a third party's code).

    ``f`` is ``floor(a (r - 1) + 1)``, ``floor(a ln r + 1)`` or ``floor((1 + a)^(r - 1))``.
    """
    match growth:
        case "linear":
            grown = rate * (number - 1) + 1
        case "log":
            grown = rate * math.log(number) + 1
        case "exp":
            # Beyond that, every device is a group of its own; larger numbers would be no floats any more.
            grown = math.exp(min(40.0, (number - 1) * math.log1p(rate)))
    return first * math.floor(grown + 1e-9)


def equal_clusters(points: NDArray[np.float64], size: int, rng: np.random.Generator) -> list[list[int]]:
    """As many clusters of ``size`` of the ``points (n, dimensions)`` as there can be, of points that lie close.

    Centres start at random points. The nearest pairs of point and centre are joined first, until all clusters are full;
    centres become the means, and so on until nothing changes. Points that are left over are in no cluster.
    """
    n_clusters = len(points) // size
    centres = points[rng.choice(len(points), n_clusters, replace=False)]
    clusters: list[list[int]] = []
    for _ in range(MOST_PASSES):
        distances = ((points[:, None] - centres) ** 2).sum(axis=2)
        found: list[list[int]] = [[] for _ in range(n_clusters)]
        placed: set[int] = set()
        for pair in np.argsort(distances, axis=None, kind="stable").tolist():
            point, cluster = divmod(pair, n_clusters)
            if point not in placed and len(found[cluster]) < size:
                found[cluster].append(point)
                placed.add(point)
        if found == clusters:
            break
        clusters = found
        centres = np.stack([points[cluster].mean(axis=0) for cluster in clusters])
    return clusters


def inter_cluster_groups(histograms: NDArray[np.float64], n: int, rng: np.random.Generator) -> Sequence[list[int]]:
    """``n`` groups of devices, each with one of every cluster of like labels; who is in no cluster is dealt in turn.

    Args:
        histograms: ``(n_devices, n_labels)``.
        n: number of groups, at most that of the devices.
        rng: for the draw; it also says in which order a group is gone through.
    """
    shares = histograms / histograms.sum(axis=1, keepdims=True)
    clusters = equal_clusters(shares, n, rng)
    groups: list[list[int]] = [[] for _ in range(n)]
    for cluster in clusters:
        for group, member in zip(groups, rng.permutation(cluster).tolist(), strict=True):
            group.append(member)
    left_over = sorted(set(range(len(histograms))) - {member for cluster in clusters for member in cluster})
    for place, member in enumerate(rng.permutation(left_over).astype(int).tolist()):
        groups[place % n].append(member)
    return [rng.permutation(group).tolist() for group in groups]
