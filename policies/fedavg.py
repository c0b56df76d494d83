"""FedAvg: full fine-tuning; the server averages the weights themselves.

System
    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
    arXiv 1602.05629, algorithm 1.

Idea
    Each round every device receives the model, trains it on its own data and sends it back. The server takes the mean,
    weighted by the devices' numbers of examples. It is what adapters are measured against: by what they save, and by
    what they lose.

Mapping
    w -> the weights of the upper ``depth`` layers and of the head, with ``embeddings`` everything; E, B ->
    ``training.local_steps``, ``training.batch_size``; n_k / n -> the weights of ``Policy.aggregate``.

Deviations
    1. The model is pre-trained. Its embeddings stay frozen unless asked for, and with them what else is of neither
       layers nor head: of a small model they are most of what would travel.
    2. All reachable devices take part; the paper draws a fraction C.
    3. Local steps are counted, not epochs.

Defaults
    depth: all layers. embeddings = False: chosen, since a round trains few of the words. Weights want a smaller step
    than adapters: set ``training.learning_rate`` to a tenth or less (Devlin et al. 2019, arXiv 1810.04805, fine-tune
    BERT at 2e-5 to 5e-5).
"""

from dataclasses import dataclass

from emulator.forms.full import FullForm
from emulator.forms.layerwise import layerwise_plan
from emulator.policy import Count, Policy
from emulator.records import ClusterView, RoundPlan
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FedAvg(Policy):
    """All devices train the same weights.

    Args:
        depth: how many layers are trained, counted from the output; all where it is not given.
        embeddings: whether embeddings and all else are trained, too; only where all layers are.
    """

    depth: Count | None = None
    embeddings: bool = False

    def form(self, model: ModelSpec) -> FullForm:
        return FullForm(depth=self.depth, trains_embeddings=self.embeddings)

    def plan(self, view: ClusterView) -> RoundPlan:
        return layerwise_plan(view, dict.fromkeys(view.available, self.depth or view.model.n_layers))
