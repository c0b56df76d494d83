"""FedAdaLoRA: AdaLoRA on every device, which masks ranks by its own scores, and plain averaging of all three factors.

System
    AdaLoRA: Zhang et al., "AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning", ICLR 2023,
    arXiv 2303.10512; scores, masks and schedule were seen in the authors' code and in PEFT. Its federated use as a
    baseline (FedAdaLoRA), A, E and B averaged by examples, was seen in a third party's code.

Idea
    Adapters are B diag(E) A. Each device scores its ranks as it trains and switches off those beyond the round's
    budget. Nothing is arbitrated: where devices disagree, the mean of E is in between, and a rank that all have masked
    may grow again. So accuracy may gain from the budget, but nothing is ever left out of the traffic; that is what
    FedARA adds.

Mapping
    P, Lambda, Q -> ``lora_B``, ``lora_E``, ``lora_A``; b(t) -> ``emulator.algorithms.ranks.cubic_budget``; b_0, b_T ->
    ``first_rank``, ``last_rank`` times the number of adapted matrices; t_i, T - t_i - t_f -> ``warm_up_rounds``,
    ``decline_rounds``; beta_1 = beta_2 -> ``smoothing``; gamma -> ``orthogonality``; the score of a rank ->
    ``emulator.learning.tasks.votes``; alpha / r, with the initial r whatever is masked -> ``scaling``.

Deviations
    1. A device masks once, as its round ends, and its scores begin anew in each round, since it is not assumed to take
       part in every one. The authors mask every 100 steps of one training.
    2. The budget falls by rounds (theirs by steps), and is fixed by parameters, as a server here does not know how many
       rounds there will be.
    3. Each device masks for itself, over all matrices together; no mask is shared (reconstructed: the third party's
       code has none).
    4. Adapters are on query and value (theirs: all six matrices of a layer); ``targets`` sets it. The trained part of
       the head travels and is averaged.

Defaults
    first_rank = 12, last_rank = 8: PEFT's. smoothing = 0.85, orthogonality = 0.1, initial_deviation = 0.02: the
    authors' code. scaling = 8: one of the authors' scripts (SST-2; others have 2.7 to 16). warm_up_rounds = 1,
    decline_rounds = 12: those of FedARA here, so that both follow one schedule.
"""

from dataclasses import dataclass

from emulator.algorithms.ranks import cubic_budget
from emulator.forms.diagonal import DiagonalAssignment, DiagonalLoraForm
from emulator.policy import Count, CountOrZero, FractionBelowOne, NotNegative, Policy, Positive
from emulator.records import ClusterView, RoundPlan
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FedAdaLora(Policy):
    """A budget of ranks that falls by rounds, which each device keeps to by its own scores; all of them travel.

    Args:
        first_rank: ranks of every adapted matrix.
        last_rank: ranks of an adapted matrix that a device leaves on at the end, on average.
        warm_up_rounds: rounds before the budget begins to fall.
        decline_rounds: rounds in which it falls.
        smoothing: share of the old value in the running scores, beta.
        orthogonality: weight of the regulariser that makes A and B orthogonal.
        initial_deviation: standard deviation of A and B at the start.
        scaling: what the product B diag(E) A is multiplied by.
        targets: the adapted matrices of each layer.
    """

    first_rank: Count = 12
    last_rank: Positive = 8.0
    warm_up_rounds: CountOrZero = 1
    decline_rounds: CountOrZero = 12
    smoothing: FractionBelowOne = 0.85
    orthogonality: NotNegative = 0.1
    initial_deviation: Positive = 0.02
    scaling: float = 8.0
    targets: tuple[str, ...] = ("query", "value")

    task = "emulator.learning.tasks.votes:train_and_mask"

    def __post_init__(self) -> None:
        if self.last_rank > self.first_rank:
            raise ValueError(f"last_rank must be at most first_rank, {self.first_rank}, got {self.last_rank!r}")

    def form(self, model: ModelSpec) -> DiagonalLoraForm:
        return DiagonalLoraForm(
            rank=self.first_rank,
            targets=self.targets,
            scaling=self.scaling,
            initial_deviation=self.initial_deviation,
        )

    def plan(self, view: ClusterView) -> RoundPlan:
        n_layers, n_targets = view.model.n_layers, len(self.targets)
        n_ranks, last = self.first_rank * n_layers * n_targets, round(self.last_rank * n_layers * n_targets)
        budget = cubic_budget(view.round_index, n_ranks, max(1, last), self.warm_up_rounds, self.decline_rounds)
        every_rank = ((tuple(range(self.first_rank)),) * n_targets,) * n_layers
        return RoundPlan(
            assignments={
                device: DiagonalAssignment(
                    device_id=device,
                    n_steps=view.training.n_steps,
                    batch_size=view.training.batch_size,
                    learning_rate=view.training.learning_rate,
                    kept=every_rank,
                    n_votes=budget if budget < n_ranks else 0,
                    masks=True,
                    smoothing=self.smoothing,
                    orthogonality=self.orthogonality,
                )
                for device in view.available
            }
        )
