"""SplitFed: a cut model of which every device trains the bottom, each with a top of its own at the server.

System
    Thapa et al., "SplitFed: When Federated Learning Meets Split Learning", AAAI 2022, arXiv 2004.12088, version 1 of
    its algorithm (SFLV1). From memory.

Idea
    As in split learning, devices compute only the layers below a cut and exchange features and gradients with the
    server in every step. As in federated learning they do so at the same time: the server keeps a copy of the top for
    each device, and after the local steps averages both the copies and the bottoms.

Mapping
    The client-side model W^C -> the form's bottom; the server-side copies W^S_k -> the top in each device's update; the
    two FedAvg steps over n_k / n -> one weighted mean over bottoms and tops; local epochs -> ``training.local_steps``.

Deviations
    1. Local steps instead of epochs, and a random cohort of ``n_selected`` devices, with equal batches for all: as the
       baseline is set up for MergeSFL (arXiv 2311.13348), to which it compares.
    2. The fed server and the main server are one; bottoms travel to it as the features do.
    3. On a transformer the bottom is the embeddings with the first layers, and LoRA is what is trained.

Defaults
    n_selected = 10, rate_decay = 0.993, rate_floor = 0.05, cut, rank: those of MergeSFL here, so that both train alike.
"""

from dataclasses import dataclass

from emulator.forms.cut import CutForm
from emulator.forms.cut_lora import cut_form
from emulator.policy import Count, Fraction, FractionAboveZero, Policy
from emulator.protocols.cut import CutRounds
from emulator.records import ClusterView, RoundPlan
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class SplitFed(Policy):
    """Random devices, equal batches.

    Args:
        cut: how many layers of a transformer lie below the cut; the first quarter where it is not given.
        rank: LoRA rank of every layer of a transformer.
        n_selected: so many devices take part in a round.
        rate_decay: factor of the learning rate per round.
        rate_floor: least learning rate, as a share of the first.
    """

    cut: Count | None = None
    rank: Count = 8
    n_selected: Count = 10
    rate_decay: FractionAboveZero = 0.993
    rate_floor: Fraction = 0.05

    families = frozenset({"transformer", "convnet"})
    protocol = CutRounds(merges=False)
    task = protocol.task

    def form(self, model: ModelSpec) -> CutForm:
        return cut_form(model, rank=self.rank, cut=self.cut)

    def plan(self, view: ClusterView) -> RoundPlan:
        form, training = self.form(view.model), view.training
        rate = training.learning_rate * max(self.rate_floor, self.rate_decay**view.round_index)
        cohort = view.rng.permutation(view.available)[: self.n_selected]
        return RoundPlan(
            assignments={
                device: form.assignment(
                    device,
                    n_steps=training.n_steps,
                    batch_size=training.batch_size,
                    learning_rate=rate,
                    top_learning_rate=rate,
                    merges=self.protocol.merges,
                )
                for device in sorted(cohort.tolist())
            }
        )
