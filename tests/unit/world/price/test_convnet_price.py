"""What a step of a convnet costs: against PyTorch's own count, autograd's saved tensors, and closed forms."""

from dataclasses import replace

import numpy as np
import pytest

from emulator.records import Work, WorkKind
from emulator.shapes.convnet import ConvNetSpec
from emulator.shapes.convnet_catalog import builtin_convnet, convnet_spec
from emulator.testing.small_world import made_up_devices
from emulator.world.price.known_range import outside_known_range
from emulator.world.price.memory import peak_memory
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_time import price

BATCH = 4
NETWORK = builtin_convnet((3, 10, 10), 5)


def work_of(network: ConvNetSpec, n_layers: int | None = None, batch_size: int = BATCH) -> Work:
    n_layers = n_layers or network.n_layers
    return Work(
        n_steps=1,
        batch_size=batch_size,
        seq_len=1,
        forward_layers=n_layers,
        backward_layers=n_layers,
        kind=WorkKind.WEIGHTS,
    )


def step(network: ConvNetSpec, n_layers: int) -> tuple[dict[str, float], int]:
    """PyTorch's FLOP of a step by direction, and the bytes that autograd keeps, each storage once."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from emulator.forms.convnet import ConvNetForm
    from emulator.learning.cut.convnet import forward
    from emulator.seeds import Seeds

    arrays = ConvNetForm().initial(network, Seeds(0))
    weights = {name.partition(".")[2]: torch.tensor(array).requires_grad_() for name, array in arrays.items()}
    weights = {f"all.{name}": weight for name, weight in weights.items()}
    channels, (height, width) = network.layers[0].weight[1], network.layers[0].positions
    kept: dict[int, int] = {}
    own = {weight.untyped_storage().data_ptr() for weight in weights.values()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    held: list[torch.Tensor] = []  # so that no storage is used twice
    ahead = FlopCounterMode(display=False)
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda tensor: held.append(tensor) or keep(tensor), lambda x: x),
        ahead,
    ):  # type: ignore[func-returns-value]
        y = forward(network.layers[:n_layers], "all", weights, torch.randn(BATCH, channels, height, width))
    with FlopCounterMode(display=False) as back:
        y.sum().backward()  # type: ignore[no-untyped-call]
    return {"forward": ahead.get_total_flops(), "backward": back.get_total_flops()}, sum(kept.values())


@pytest.mark.parametrize("n_layers", [2, 4])
def test_flop_are_those_that_pytorch_counts(n_layers: int) -> None:
    found, _ = step(NETWORK, n_layers)
    work = work_of(NETWORK, n_layers)

    assert step_of(NETWORK, work).forward_flop == found["forward"]
    assert step_of(NETWORK, work).backward_flop == found["backward"]


def test_alexnet_below_its_cut_agrees_with_pytorch_too() -> None:
    network = convnet_spec("alexnet", 10)
    found, _ = step(network, network.cut)
    work = work_of(network, network.cut)

    assert (step_of(network, work).forward_flop, step_of(network, work).backward_flop) == (
        found["forward"],
        found["backward"],
    )


@pytest.mark.parametrize("n_layers", [2, 4])
def test_kept_activations_are_those_of_autograd(n_layers: int) -> None:
    """Below the cut the features are kept for the server as well, although no gradient here needs them."""
    _, kept_bytes = step(NETWORK, n_layers)
    features_bytes = 4 * BATCH * NETWORK.n_features if n_layers == NETWORK.cut else 0

    assert peak_memory(NETWORK, work_of(NETWORK, n_layers), "fp32").activations_bytes == kept_bytes + features_bytes


def test_trained_parameters_and_memory_are_those_of_the_bottom() -> None:
    network = convnet_spec("alexnet", 10)
    work = work_of(network, network.cut, batch_size=64)
    memory = peak_memory(network, work, "fp32")

    assert step_of(network, work).n_trained_parameters == network.n_bottom_parameters
    assert memory.weights_bytes == memory.optimizer_bytes == 4 * network.n_bottom_parameters
    assert memory.activations_bytes == 4 * 64 * (
        3 * 32 * 32 + sum(layer.n_kept for layer in network.layers[: network.cut])
    )


def test_a_step_takes_its_arithmetic_at_the_device_s_rate() -> None:
    mode = made_up_devices(1)[0].modes[0]
    work = work_of(NETWORK)
    cost = price(NETWORK, work, mode, "fp32")

    assert cost.forward_flop == BATCH * sum(layer.forward_flop for layer in NETWORK.layers)
    first = NETWORK.layers[0].forward_flop
    assert cost.backward_flop == 2 * cost.forward_flop - BATCH * first
    assert cost.backward_s == pytest.approx(cost.backward_flop / mode.effective_flop_per_s["fp32"])


def test_inference_has_no_backward_pass() -> None:
    work = replace(work_of(NETWORK), backward_layers=0, kind=WorkKind.INFERENCE)
    demand = step_of(NETWORK, work, "fp32").demand()

    assert (demand.backward_flop, demand.n_backward_operations, demand.optimizer_bytes) == (0, 0, 0)
    assert peak_memory(NETWORK, work, "fp32").activations_bytes == 0


def test_a_bigger_batch_costs_in_proportion() -> None:
    one, many = (step_of(NETWORK, work_of(NETWORK, batch_size=size), "fp32").demand() for size in (1, 7))

    assert np.isclose(many.forward_flop, 7 * one.forward_flop)
    assert many.n_forward_operations == one.n_forward_operations


def test_no_profile_is_known_for_networks() -> None:
    from device_profiles.catalog import load_profile

    found = outside_known_range(load_profile("jetson_tx2"), NETWORK, work_of(NETWORK), "fp32")
    assert found is not None
