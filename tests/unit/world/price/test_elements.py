"""What element-wise operations read and write is about what PyTorch's do, tensor by tensor."""

import pytest

from emulator.forms.lora import low_rank_adapters
from emulator.records import Work, WorkKind
from emulator.shapes.catalog import model_spec
from emulator.world.price.elements import n_backward_elements, n_forward_elements
from emulator.world.price.layers import Layers

QUERY_VALUE = ("query", "value")
ALL = ("query", "key", "value", "attention_output", "mlp_up", "mlp_down")
B, S, H, M, A = 4, 256, 768, 3072, 12  # RoBERTa-base, batch 4, length 256
ROBERTA = model_spec("roberta-base", n_labels=2, seq_len=S, head="output")


def lora(depth: int, targets: tuple[str, ...] = QUERY_VALUE, n_layers: int = 12) -> Work:
    return Work(
        n_steps=1,
        batch_size=B,
        seq_len=S,
        forward_layers=n_layers,
        backward_layers=depth,
        adapters=low_rank_adapters(ROBERTA, targets, (0,) * (n_layers - depth) + (4,) * depth),
    )


def test_an_encoder_reads_and_writes_what_its_operations_touch() -> None:
    # two sums of 3 h, two norms of 2 h, four copies of 2 h for the heads; GELU 2 m; scaling and softmax 2 a s each
    layer = (6 + 4 + 8) * H + 2 * M + 4 * A * S
    adapters = 2 * 5 * H  # query and value: the product is scaled (2 h) and added (3 h)
    assert n_forward_elements(Layers(ROBERTA, lora(3))) == B * S * (12 * layer + 3 * adapters + 15 * H)
    # sums of four maps, two adapters and the residual: 5 of 3 h, and one behind attention; two norms of 3 h
    layer = (15 + 3 + 6 + 8) * H + 3 * M + 5 * A * S
    upper = n_backward_elements(Layers(ROBERTA, lora(3))) - n_backward_elements(Layers(ROBERTA, lora(2)))
    assert upper == B * S * (layer + 2 * 2 * H)


def test_inference_and_the_head_alone_have_no_element_wise_backward() -> None:
    assert n_backward_elements(Layers(ROBERTA, lora(0))) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "error_fraction"),
    [("bert", 0.05), ("roberta", 0.05), ("distilbert", 0.06), ("llama", 0.14), ("gemma", 0.08)],
)
@pytest.mark.parametrize(
    ("targets", "depth", "kind"),
    [
        (QUERY_VALUE, 3, WorkKind.ADAPTERS),
        (QUERY_VALUE, 1, WorkKind.ADAPTERS),
        (ALL, 2, WorkKind.ADAPTERS),
        ((), 3, WorkKind.WEIGHTS),
    ],
)
def test_elements_are_those_that_pytorch_touches(
    family: str, error_fraction: float, targets: tuple[str, ...], depth: int, kind: WorkKind
) -> None:
    from tests.unit.world.price.autograd_probe import N_LAYERS, priced, run_step

    model = priced(family, "full")
    work = Work(
        n_steps=1,
        batch_size=2,
        seq_len=64,
        forward_layers=N_LAYERS,
        backward_layers=depth,
        adapters=low_rank_adapters(model, targets, (0,) * (N_LAYERS - depth) + (4,) * depth),
        kind=kind,
    )
    probe = run_step(family, work)
    assert n_forward_elements(Layers(model, work)) == pytest.approx(probe.n_forward_elements, rel=0.06)
    assert n_backward_elements(Layers(model, work)) == pytest.approx(probe.n_backward_elements, rel=error_fraction)
