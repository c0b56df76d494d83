"""FedARA: ranks that matter little are switched off round by round, matrix by matrix, as the devices vote.

System
    "Adaptive Rank Allocation for Federated Parameter-Efficient Fine-Tuning of Language Models" (FedARA),
    arXiv 2501.14406. Of the paper the abstract and its opening were at hand; the scores were seen in the code of
    AdaLoRA (arXiv 2303.10512) in PEFT, on which it builds.

Idea
    Adapters are B diag(E) A, with A and B alike at the start. Devices score how much each rank matters to them and vote
    for as many as the round's budget leaves; the server keeps the ranks with the most votes. Ranks that are switched
    off are neither sent nor computed; a matrix without ranks loses its adapter, and the backward pass ends at the
    lowest layer that has one.

Mapping
    b_0, b_T -> ``first_rank``, ``last_rank`` times the number of adapted matrices; t_i -> ``warm_up_rounds``;
    T - t_i - t_f -> ``decline_rounds``; b(t) -> ``emulator.algorithms.ranks.cubic_budget``; beta_1 = beta_2 ->
    ``smoothing``; S_j -> ``emulator.learning.tasks.votes``; mask_k -> the reported ``votes``; p_k -> numbers of
    examples; vote_j, M -> ``emulator.algorithms.ranks.arbitrated``; CommPru -> ``DiagonalAssignment.kept``.

Deviations
    1. That the paper's score is AdaLoRA's is from memory. Sensitivity and uncertainty begin anew in each round, since a
       device is not assumed to take part in every one.
    2. The arbitration is reconstructed: ranks go by their share of the votes. A majority is no condition of its own,
       as the budget is met exactly; equal shares are decided by the size of what a rank adds to the weights,
       ``|E_j| |A_j| |B_j|`` of the merged state, which the server knows without further bytes.
    3. The budget falls by rounds (AdaLoRA's by steps), and never below one rank in all. It is fixed by parameters,
       since a server here does not know how many rounds there will be.
    4. The scaling does not grow as ranks go (PEFT's AdaLoRA divides by their number): what stays keeps its meaning.
    5. AdaLoRA's regulariser towards orthogonal A and B is off unless ``orthogonality`` is set: whether the paper keeps
       it was not established.
    6. The trained part of the classification head travels with the adapters and is averaged like them.
    7. Where nothing is trained there are no votes; then the budget is cut evenly, from each matrix its last ranks, so
       that bytes follow the schedule while the depth stays.

Defaults
    first_rank = 12: AdaLoRA's (PEFT); taken for the paper's, from memory. smoothing = 0.85, initial_deviation = 0.02:
    AdaLoRA's (PEFT). orthogonality = 0: not established; chosen because it is the simpler reading.
    last_rank = 2, warm_up_rounds = 1, decline_rounds = 12: not stated; chosen so that of twenty rounds, a run's
    default, the last third is trained at the final budget, and fixed before any run was made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulator.algorithms.ranks import RankMask, arbitrated, cubic_budget, highest
from emulator.forms.base import AdapterForm
from emulator.forms.diagonal import DiagonalAssignment, DiagonalLoraForm, KeptRanks
from emulator.policy import Count, CountOrZero, FractionBelowOne, NotNegative, Policy, Positive
from emulator.records import Arrays, ClusterView, RoundPlan, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FedAra(Policy):
    """A budget of ranks that falls by rounds, and votes about which of them stay.

    Args:
        first_rank: ranks of every adapted matrix at the start.
        last_rank: ranks of an adapted matrix at the end, on average.
        warm_up_rounds: rounds before the budget begins to fall.
        decline_rounds: rounds in which it falls.
        smoothing: share of the old value in the running scores, beta.
        orthogonality: weight of the regulariser that makes A and B orthogonal.
        initial_deviation: standard deviation of A and B at the start.
    """

    first_rank: Count = 12
    last_rank: Positive = 2.0
    warm_up_rounds: CountOrZero = 1
    decline_rounds: CountOrZero = 12
    smoothing: FractionBelowOne = 0.85
    orthogonality: NotNegative = 0.0
    initial_deviation: float = 0.02

    task = "emulator.learning.tasks.votes:train_and_vote"

    _kept: RankMask | None = field(default=None, init=False, repr=False)  # (layers * targets * first_rank,)
    _next_budget: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.last_rank > self.first_rank:
            raise ValueError(f"last_rank must be at most first_rank, {self.first_rank}, got {self.last_rank!r}")

    def form(self, model: ModelSpec) -> DiagonalLoraForm:
        return DiagonalLoraForm(rank=self.first_rank, initial_deviation=self.initial_deviation)

    def plan(self, view: ClusterView) -> RoundPlan:
        form = self.form(view.model)
        n_matrices = view.model.n_layers * len(form.targets)
        if self._kept is None:
            self._kept = np.ones(n_matrices * self.first_rank, dtype=bool)
        if not view.state:
            self._kept = evenly(n_matrices, self.first_rank, self._budget(view.round_index, n_matrices))
        self._next_budget = self._budget(view.round_index + 1, n_matrices)
        kept = kept_ranks(self._kept, view.model.n_layers, len(form.targets))
        must_vote = self._next_budget < int(self._kept.sum())
        return RoundPlan(
            assignments={
                device: DiagonalAssignment(
                    device_id=device,
                    n_steps=view.training.n_steps,
                    batch_size=view.training.batch_size,
                    learning_rate=view.training.learning_rate,
                    kept=kept,
                    n_votes=self._next_budget if must_vote else 0,
                    smoothing=self.smoothing,
                    orthogonality=self.orthogonality,
                )
                for device in view.available
            }
        )

    def finish(self, form: AdapterForm, state: Arrays, mean: Arrays, updates: Sequence[Update]) -> Arrays:
        assert self._kept is not None  # plan() has been called
        voters = [update for update in updates if "votes" in update.reported]
        votes = [update.reported["votes"] > 0 for update in voters]
        weights = [update.n_examples for update in voters]
        self._kept = arbitrated(self._kept, votes, weights, rank_sizes(mean), self._next_budget)
        return switched_off(mean, self._kept)

    def _budget(self, round_index: int, n_matrices: int) -> int:
        first, last = self.first_rank * n_matrices, max(1, round(self.last_rank * n_matrices))
        return cubic_budget(round_index, first, last, self.warm_up_rounds, self.decline_rounds)


def kept_ranks(kept: RankMask, n_layers: int, n_targets: int) -> KeptRanks:
    """The numbers of the ranks that a flat mask keeps, by layer and target."""
    return tuple(
        tuple(tuple(np.flatnonzero(ranks).tolist()) for ranks in targets)
        for targets in kept.reshape(n_layers, n_targets, -1)
    )


def evenly(n_matrices: int, rank: int, budget: int) -> RankMask:
    """A mask that keeps ``budget`` ranks, the first of each matrix; the matrices' numbers differ by at most one."""
    numbers = np.tile(np.arange(rank), n_matrices)
    return highest(-numbers.astype(np.float64), budget)


def rank_sizes(state: Arrays) -> NDArray[np.float64]:
    """``|E_j| |A_j| |B_j|`` of every rank, in the order of layers, targets and ranks: the norm of what it adds."""
    places = [name.removesuffix("lora_E") for name in state if name.endswith("lora_E")]
    return np.concatenate(
        [
            np.abs(state[f"{place}lora_E"][:, 0].astype(np.float64))
            * np.linalg.norm(state[f"{place}lora_A"].astype(np.float64), axis=1)
            * np.linalg.norm(state[f"{place}lora_B"].astype(np.float64), axis=0)
            for place in places
        ]
    )


def switched_off(state: Arrays, kept: RankMask) -> Arrays:
    """The state with E 0 at all ranks that are not kept."""
    names = [name for name in state if name.endswith("lora_E")]
    masks = kept.reshape(len(names), -1, 1)
    return {
        **state,
        **{name: np.where(mask, state[name], np.float32(0)) for name, mask in zip(names, masks, strict=True)},
    }
