"""There is one answer to whether a parameter is trained: the form's, and the attachment's is the same."""

from dataclasses import replace

import pytest

from emulator.forms.base import AdapterForm
from emulator.forms.bottleneck import BottleneckForm
from emulator.forms.decoupled_lora import DecoupledAssignment, DecoupledLoraForm
from emulator.forms.diagonal import DiagonalAssignment, DiagonalLoraForm
from emulator.forms.ia3 import Ia3Form
from emulator.forms.kept_units import KeptUnits
from emulator.forms.layer_subset import LayerSubsetLoraForm
from emulator.forms.layerwise import LayerwiseAssignment
from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.forms.prefix_tuning import PrefixTuningForm
from emulator.forms.prompt_tuning import PromptTuningForm
from emulator.forms.pruned_lora import PrunedLoraAssignment, PrunedLoraForm
from emulator.forms.residual import ResidualAssignment, ResidualLoraForm
from emulator.learning.host import DeviceHost, HostContent
from emulator.records import Assignment
from emulator.seeds import Seeds
from emulator.shapes.catalog import model_spec_from_config
from tests.unit.learning.test_stacked_training import SETTINGS
from tests.unit.learning.tiny_models import N_LABELS, SEQ_LEN, tiny_content

COMMON = {"device_id": 0, "n_steps": 1, "batch_size": 2, "learning_rate": 1e-3}
RANKS = (2, 3, 4)
LORA = LoraAssignment(**COMMON, ranks=RANKS, depth=2)  # type: ignore[arg-type]
KEPT = KeptUnits.all_of(3, 2, 32)
CASES: list[tuple[AdapterForm, Assignment]] = [
    (LoraForm(ranks=RANKS), LORA),
    (Ia3Form(), LayerwiseAssignment(**COMMON, depth=2)),  # type: ignore[arg-type]
    (BottleneckForm(width=2), LayerwiseAssignment(**COMMON, depth=1)),  # type: ignore[arg-type]
    (PromptTuningForm(n_virtual_tokens=2), LayerwiseAssignment(**COMMON, depth=3)),  # type: ignore[arg-type]
    (PrefixTuningForm(n_virtual_tokens=2), LayerwiseAssignment(**COMMON, depth=3)),  # type: ignore[arg-type]
    (PrefixTuningForm(projection_size=3), LayerwiseAssignment(**COMMON, depth=3)),  # type: ignore[arg-type]
    (DecoupledLoraForm(ranks=RANKS), DecoupledAssignment(**COMMON, ranks=RANKS, depth=2, n_frozen=1, n_lacking=0)),  # type: ignore[arg-type]
    (LoraForm(ranks=RANKS, trains_a=False), LORA),
    (LayerSubsetLoraForm(ranks=RANKS), replace(LORA, ranks=(2, 0, 4), depth=3)),
    (DiagonalLoraForm(rank=2), DiagonalAssignment(**COMMON, kept=(((), ()), ((0,), ()), ((0, 1), (1,))))),  # type: ignore[arg-type]
    (PrunedLoraForm(ranks=RANKS), PrunedLoraAssignment(**COMMON, ranks=RANKS, depth=2, kept=KEPT)),  # type: ignore[arg-type]
    (ResidualLoraForm(ranks=RANKS), ResidualAssignment(**COMMON, ranks=RANKS, depth=2, residual_rank=1)),  # type: ignore[arg-type]
]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("bert", tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize(("form", "assignment"), CASES, ids=lambda value: type(value).__name__)
def test_what_a_form_says_is_trained_is_what_comes_back(
    content: HostContent, form: AdapterForm, assignment: Assignment
) -> None:
    frozen = content.model
    model = model_spec_from_config(frozen.config, name="tiny", n_labels=N_LABELS, seq_len=SEQ_LEN, head="output")
    state = {**frozen.head_arrays(), **form.initial(model, Seeds(0))}
    payload = form.project(state, assignment)
    adapters = DeviceHost(content, SETTINGS).attach(form)

    adapters.load([payload], [assignment])

    assert set(adapters.read()[0]) == {name for name in payload if form.is_trained(name, assignment, model)}
    assert len(adapters.read()[0]) > 0
