"""The tensors of a step, as they are written down for an allocator, are those that are counted."""

from dataclasses import replace

import pytest

from emulator.forms.bottleneck import BottleneckForm
from emulator.forms.ia3 import Ia3Form
from emulator.forms.lora import low_rank_adapters
from emulator.records import Adapters, LocalOptimizer, MemorySavers, Work, WorkKind
from emulator.shapes.catalog import model_spec_from_config
from emulator.shapes.convnet_catalog import convnet_spec
from emulator.shapes.spec import ModelSpec
from emulator.world.price.allocator import Allocation, Event, Release
from emulator.world.price.layers import Layers
from emulator.world.price.memory import tensor_events
from emulator.world.price.optimizer import state_bytes
from emulator.world.price.step import Attention
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_trace import StepOptions, step_events

SIZES = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 1000,
    "max_position_embeddings": 514,
}
CONFIGS = {
    "bert": {"model_type": "bert", "intermediate_size": 1024, "type_vocab_size": 2, **SIZES},
    "llama": {"model_type": "llama", "intermediate_size": 700, "num_key_value_heads": 2, **SIZES},
    "gpt2": {"model_type": "gpt2", "n_embd": 256, "n_layer": 4, "n_head": 4, "vocab_size": 1000, "n_positions": 514},
    "phi3": {"model_type": "phi3", "intermediate_size": 700, "num_key_value_heads": 4, "pad_token_id": 0, **SIZES},
}
MODELS = {
    name: model_spec_from_config(config, name=name, n_labels=2, seq_len=128, head="output")
    for name, config in CONFIGS.items()
}
ENCODER = MODELS["bert"]
QV = ("query", "value")
TOKENS_BYTES = 4 * 8 * 128  # of a float32 for each token


def work(model: ModelSpec, depth: int = 3, kind: WorkKind = WorkKind.ADAPTERS, **sizes: int) -> Work:
    rank = 0 if kind is WorkKind.WEIGHTS else 8
    return Work(
        n_steps=1,
        batch_size=sizes.get("batch_size", 8),
        seq_len=sizes.get("seq_len", 128),
        forward_layers=4,
        backward_layers=0 if kind is WorkKind.INFERENCE else depth,
        adapters=low_rank_adapters(model, model.stored(QV), (0,) * (4 - depth) + (rank,) * depth),
        kind=kind,
    )


def most_alive_bytes(events: list[Event]) -> int:
    alive: dict[int, int] = {}
    n_bytes = most = 0
    for event in events:
        if isinstance(event, Allocation):
            alive[event.key] = event.n_bytes
            n_bytes += event.n_bytes
            most = max(most, n_bytes)
        else:
            n_bytes -= alive.pop(event.key)
    return most


def left_bytes(events: list[Event]) -> int:
    """Of what is made and never freed; nothing is made twice, and nothing freed that was not made."""
    alive: dict[int, int] = {}
    for event in events:
        if isinstance(event, Allocation):
            assert event.key not in alive
            alive[event.key] = event.n_bytes
        else:
            del alive[event.key]
    return sum(alive.values())


ALL_KINDS = [
    (name, kind, depth, attention)
    for name in MODELS
    for kind in WorkKind
    for depth in (1, 4)
    for attention in ("eager", "sdpa")
]
SAVERS = {
    "checkpointing": MemorySavers(checkpointing=True),
    "two passes": MemorySavers(accumulation_steps=2),
    "uneven passes": MemorySavers(accumulation_steps=3),
    "int8": MemorySavers(base_precision="int8"),
    "nf4": MemorySavers(base_precision="nf4"),
    "bfloat16": MemorySavers(base_precision="bfloat16"),
}


def bounds(model: ModelSpec, one: Work, options: StepOptions) -> tuple[float, float]:
    """At least what is kept when the backward pass begins, without gradients; at most all parts at their most."""
    step = step_of(model, one, options.precision, options.optimizer, options.savers)
    priced = step.memory(attention=options.attention, dropout=options.dropout)
    state = sum(state_bytes(options.optimizer)) * step.n_trained_parameters
    # What goes around a layer and its gradient lie beside the working set that is counted, as does a fused map's output
    # while its parts are read.
    beside = (2 + 3 * bool(model.layer_design.fused)) * TOKENS_BYTES * model.hidden_size
    return 0.98 * (priced.weights_bytes + priced.activations_bytes + state), 1.02 * priced.total_bytes + beside


@pytest.mark.parametrize(("name", "kind", "depth", "attention"), ALL_KINDS)
def test_the_tensors_of_a_step_are_those_that_are_counted(
    name: str, kind: WorkKind, depth: int, attention: Attention
) -> None:
    model, options = MODELS[name], StepOptions(attention=attention)
    one = work(model, depth, kind)
    least, most = bounds(model, one, options)
    assert least <= most_alive_bytes(step_events(Layers(model, one), options)) <= most


@pytest.mark.parametrize(("name", "kind", "depth", "attention"), ALL_KINDS)
def test_a_step_frees_all_but_weights_and_moments(name: str, kind: WorkKind, depth: int, attention: Attention) -> None:
    model = MODELS[name]
    one = work(model, depth, kind)
    step = step_of(model, one)
    left = left_bytes(step_events(Layers(model, one), StepOptions(attention=attention)))
    assert left == pytest.approx(step.memory().weights_bytes + 8 * step.n_trained_parameters, rel=0.02)


@pytest.mark.parametrize("savers", SAVERS.values(), ids=list(SAVERS))
@pytest.mark.parametrize("precision", ["fp32", "amp"])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_step_that_saves_memory_holds_what_is_counted(name: str, precision: str, savers: MemorySavers) -> None:
    model, options = MODELS[name], StepOptions(precision=precision, savers=savers)
    one = work(model)
    least, most = bounds(model, one, options)
    events = step_events(Layers(model, one), options)
    assert least <= most_alive_bytes(events) <= most
    step = step_of(model, one, precision, savers=savers)
    assert left_bytes(events) == pytest.approx(step.memory().weights_bytes + 8 * step.n_trained_parameters, rel=0.02)


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("n_quantized", [0, 2, 3])
def test_quantized_layers_and_dropout_are_held_as_they_are_counted(n_quantized: int, dropout: bool) -> None:
    one, options = replace(work(ENCODER), quantized_layers=n_quantized), StepOptions(dropout=dropout)
    least, most = bounds(ENCODER, one, options)
    assert least <= most_alive_bytes(step_events(Layers(ENCODER, one), options)) <= most


@pytest.mark.parametrize(
    "optimizer",
    [
        LocalOptimizer(name="sgd"),
        LocalOptimizer(name="sgd", momentum=0.9),
        LocalOptimizer(name="adamw_8bit"),
        LocalOptimizer(proximal_mu=0.1),
    ],
)
def test_an_optimizer_leaves_its_state(optimizer: LocalOptimizer) -> None:
    one = work(ENCODER, 4, WorkKind.WEIGHTS)
    step = step_of(ENCODER, one, optimizer=optimizer)
    memory = step.memory()
    gradient_bytes = 4 * step.n_trained_parameters
    left = left_bytes(step_events(Layers(ENCODER, one), StepOptions(optimizer=optimizer)))
    assert left == pytest.approx(memory.weights_bytes + memory.optimizer_bytes - gradient_bytes, rel=0.02)


@pytest.mark.parametrize("form", [BottleneckForm(), Ia3Form()], ids=["bottleneck", "ia3"])
def test_adapters_of_other_forms_are_held_as_they_are_counted(form: BottleneckForm | Ia3Form) -> None:
    adapters = tuple((adapter, 4) for adapter in form.adapters(ENCODER))
    one = replace(work(ENCODER), adapters=Adapters(((),) + (adapters,) * 3))
    least, most = bounds(ENCODER, one, StepOptions())
    events = step_events(Layers(ENCODER, one), StepOptions())
    assert least <= most_alive_bytes(events) <= most
    step = step_of(ENCODER, one)
    assert left_bytes(events) == pytest.approx(step.memory().weights_bytes + 8 * step.n_trained_parameters, rel=0.02)


@pytest.mark.parametrize(("kind", "depth"), [(WorkKind.WEIGHTS, 4), (WorkKind.WEIGHTS, 2), (WorkKind.INFERENCE, 0)])
def test_a_convnet_s_tensors_are_those_that_are_counted(kind: WorkKind, depth: int) -> None:
    model = convnet_spec("vgg16-bn", n_labels=10)
    one = Work(n_steps=1, batch_size=16, seq_len=1, forward_layers=4, backward_layers=depth, kind=kind)
    priced = step_of(model, one).memory()
    events = tensor_events(model, one, StepOptions())
    assert priced.weights_bytes + priced.activations_bytes <= most_alive_bytes(events) <= 1.02 * priced.total_bytes
    assert left_bytes(events) == priced.weights_bytes


def test_events_pair_up() -> None:
    events = step_events(Layers(ENCODER, work(ENCODER)), StepOptions())
    freed = [event.key for event in events if isinstance(event, Release)]
    assert len(set(freed)) == len(freed)
