"""FedARA: ranks that matter little are switched off round by round, matrix by matrix, as the devices vote.

System
    "Adaptive Rank Allocation for Federated Parameter-Efficient Fine-Tuning of Language Models" (FedARA),
    arXiv 2501.14406. Of the paper the abstract and its opening were at hand; scores, scaling, start and regulariser
    were seen in the code of AdaLoRA (arXiv 2303.10512), on which it builds: its authors' and PEFT's.

Idea
    Adapters are B diag(E) A, with A and B alike at the start. Devices score how much each rank matters to them and vote
    for as many as the round's budget leaves; the server keeps the ranks with the most votes. Ranks that are switched
    off are neither sent nor computed; a matrix without ranks loses its adapter, and the backward pass ends at the
    lowest layer that has one.

Mapping
    b_0, b_T -> ``first_rank``, ``last_rank`` times the number of adapted matrices; t_i -> ``warm_up_rounds``;
    T - t_i - t_f -> ``decline_rounds``; b(t) -> ``emulator.algorithms.ranks.cubic_budget``; beta_1 = beta_2 ->
    ``smoothing``; S_j -> ``emulator.learning.tasks.votes`` and ``carried``; mask_k -> the ``n_votes`` highest of S_j;
    p_k -> numbers of examples; vote_j, M -> ``emulator.algorithms.ranks.arbitrated``; CommPru ->
    ``DiagonalAssignment.kept``; gamma -> ``orthogonality``; alpha / r, r that of the start -> ``alpha / first_rank``.

Deviations
    1. That the paper's score is AdaLoRA's is from memory. AdaLoRA's running means go over a whole training; here those
       of sensitivity and uncertainty go over the steps of a round, and a device carries on their product by rank, as
       ``s <- m s + (1 - m) s_round`` with ``m = smoothing ** n_steps``: what a running mean keeps over so many steps
       (reconstructed). Of each device a number by rank is remembered, not two by parameter. ``carries_scores`` off: the
       scores begin anew in each round. Scores stay on the device; what it sends and pays for is the vote.
    2. The arbitration is reconstructed: ranks go by their share of the votes. A majority is no condition of its own,
       as the budget is met exactly; equal shares are decided by the size of what a rank adds to the weights,
       ``|E_j| |A_j| |B_j|`` of the merged state, which the server knows without further bytes.
    3. The budget falls by rounds (AdaLoRA's by steps), and never below one rank in all. It is fixed by parameters,
       since a server here does not know how many rounds there will be.
    4. The scaling is ``alpha`` over the ranks at the start, and does not change as ranks go: AdaLoRA's code, its
       authors' (``loralib/adalora.py``) and PEFT's, fills its ``ranknum`` once. The engine's scaling of 2 would be
       alpha = 24, with which 80 local steps, those of a run by default, hardly move the weights.
    5. A deviation of 0.02 gives rows of A and columns of B a norm of 0.55 at AdaLoRA's width of 768, and of 0.16 at the
       built-in model's 64, where the adapters then hardly move. ``start = "width"`` keeps the norm at every width;
       ``"fixed"`` is the deviation to the letter, ``"orthonormal"`` what the regulariser leads to.
    6. AdaLoRA's regulariser towards orthogonal A and B is on, as in all of its scripts; whether FedARA keeps it was not
       established.
    7. Adapters are on query and value (AdaLoRA's scripts: all six matrices of a layer); ``targets`` sets it.
    8. The trained part of the classification head travels with the adapters and is averaged like them.
    9. Where nothing is trained there are no votes; then the budget is cut evenly, from each matrix its last ranks, so
       that bytes follow the schedule while the depth stays.

Defaults
    first_rank = 12: AdaLoRA's (PEFT); taken for the paper's, from memory. smoothing = 0.85, initial_deviation = 0.02,
    orthogonality = 0.1: AdaLoRA's authors' code and scripts. alpha = 96: a scaling of 8, that of their script for SST-2
    (others have 2.7 to 16; PEFT's alpha of 8 would be 0.67). Among these, 8 was chosen with runs of ``builtin:tiny-12``
    at hand. start = "width", carries_scores = true: as above.
    last_rank = 2, warm_up_rounds = 1, decline_rounds = 12: not stated; chosen so that of twenty rounds the
    last third is trained at the final budget, and fixed before any run was made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from emulator.algorithms.ranks import RankMask, arbitrated, cubic_budget, highest
from emulator.forms.base import AdapterForm
from emulator.forms.diagonal import DiagonalAssignment, DiagonalLoraForm, KeptRanks, Start
from emulator.policy import Count, CountOrZero, FractionBelowOne, Nonempty, NotNegative, Policy, Positive
from emulator.records import Arrays, ClusterView, RoundPlan, Update
from emulator.shapes.spec import ModelSpec

RankScores = NDArray[np.float64]
"""``(layers * targets * first_rank,)``: what a device remembers of each rank; 0 before it has trained it."""


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
        alpha: the product B diag(E) A is multiplied by alpha over ``first_rank``.
        start: how A and B are drawn: ``width`` for norms that are alike at all widths, ``orthonormal``, or ``fixed``
            for one standard deviation at all widths.
        initial_deviation: standard deviation of A and B at the start, of ``width`` that at width 768.
        carries_scores: whether a device's scores go on from one of its rounds to the next, or begin anew.
        targets: the adapted matrices of each layer.
    """

    first_rank: Count = 12
    last_rank: Positive = 2.0
    warm_up_rounds: CountOrZero = 1
    decline_rounds: CountOrZero = 12
    smoothing: FractionBelowOne = 0.85
    orthogonality: NotNegative = 0.1
    alpha: Positive = 96.0
    start: Start = "width"
    initial_deviation: Positive = 0.02
    carries_scores: bool = True
    targets: Annotated[tuple[str, ...], Nonempty] = ("query", "value")

    task = "emulator.learning.tasks.votes:train_and_vote"

    _kept: RankMask | None = field(default=None, init=False, repr=False)  # (layers * targets * first_rank,)
    _next_budget: int = field(default=0, init=False, repr=False)
    _scores: dict[int, RankScores] = field(default_factory=dict, init=False, repr=False)  # by device, of all ranks

    def __post_init__(self) -> None:
        if self.last_rank > self.first_rank:
            raise ValueError(f"last_rank must be at most first_rank, {self.first_rank}, got {self.last_rank!r}")

    def form(self, model: ModelSpec) -> DiagonalLoraForm:
        return DiagonalLoraForm(
            rank=self.first_rank,
            targets=self.targets,
            scaling=self.alpha / self.first_rank,
            initial_deviation=self.initial_deviation,
            start=self.start,
        )

    def plan(self, view: ClusterView) -> RoundPlan:
        form = self.form(view.model)
        n_matrices = view.model.n_layers * len(form.targets)
        if self._kept is None:
            self._kept = np.ones(n_matrices * self.first_rank, dtype=bool)
        if not view.state:
            self._kept = evenly(n_matrices, self.first_rank, self._budget(view.round_index, n_matrices))
        self._next_budget = self._budget(view.round_index + 1, n_matrices)
        kept = kept_ranks(self._kept, view.model.n_layers, len(form.targets))
        n_kept = int(self._kept.sum())
        n_votes = self._next_budget if self._next_budget < n_kept else 0
        will_vote = n_kept > self._last_budget(n_matrices)
        return RoundPlan(
            assignments={
                device: DiagonalAssignment(
                    device_id=device,
                    n_steps=view.training.n_steps,
                    batch_size=view.training.batch_size,
                    learning_rate=view.training.learning_rate,
                    kept=kept,
                    n_votes=n_votes,
                    reports_scores=will_vote if self.carries_scores else n_votes > 0,
                    smoothing=self.smoothing,
                    orthogonality=self.orthogonality,
                )
                for device in view.available
            }
        )

    def finish(self, form: AdapterForm, state: Arrays, mean: Arrays, updates: Sequence[Update]) -> Arrays:
        assert self._kept is not None  # plan() has been called
        for update in (update for update in updates if "scores" in update.reported):
            known = self._scores.get(update.device_id, np.zeros(len(self._kept)))
            self._scores[update.device_id] = carried(known, self._kept, update, self._memory(update))
        voters = [update for update in updates if _votes_of(update)]
        votes = [highest(self._scores[update.device_id][self._kept], _votes_of(update)) for update in voters]
        weights = [update.n_examples for update in voters]
        self._kept = arbitrated(self._kept, votes, weights, rank_sizes(mean), self._next_budget)
        return switched_off(mean, self._kept)

    def _memory(self, update: Update) -> float:
        """What a running mean over steps keeps of its old value over those of the device."""
        return self.smoothing**update.assignment.n_steps if self.carries_scores else 0.0

    def _budget(self, round_index: int, n_matrices: int) -> int:
        first, last = self.first_rank * n_matrices, self._last_budget(n_matrices)
        return cubic_budget(round_index, first, last, self.warm_up_rounds, self.decline_rounds)

    def _last_budget(self, n_matrices: int) -> int:
        return max(1, round(self.last_rank * n_matrices))


def carried(known: RankScores, kept: RankMask, update: Update, memory: float) -> RankScores:
    """The scores of a device after a round, ``m s + (1 - m) s_round`` at the ranks that it held."""
    scores = known.copy()
    scores[kept] = memory * known[kept] + (1 - memory) * update.reported["scores"]
    return scores


def _votes_of(update: Update) -> int:
    """For how many ranks a device votes; 0 where it has nothing to go by, as without training."""
    assert isinstance(update.assignment, DiagonalAssignment)
    return update.assignment.n_votes if "scores" in update.reported else 0


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
