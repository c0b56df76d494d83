"""Which form cuts a model: a transformer between two of its layers, a network where its convolutions end."""

from emulator.forms.base import CutForm
from emulator.forms.network import NetworkForm
from emulator.forms.split import SplitLoraForm
from emulator.layered_spec import LayeredSpec
from emulator.model_spec import ModelSpec


def cut_form(model: ModelSpec, *, rank: int, cut: int) -> CutForm:
    """The form that cuts ``model``.

    A transformer is cut behind its first ``cut`` layers, all of which have LoRA of ``rank``; 0 means behind the first
    quarter of them. A network has a cut of its own.

    Raises:
        ValueError: ``rank`` is less than 1, or ``cut`` is given for a network.
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank!r}")
    if not isinstance(model, LayeredSpec):
        return SplitLoraForm(ranks=(rank,) * model.n_layers, cut=cut or max(1, model.n_layers // 4))
    if cut:
        raise ValueError(f"{model.name} is cut where its convolutions end; leave cut at 0, got {cut!r}")
    return NetworkForm()
