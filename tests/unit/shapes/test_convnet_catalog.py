"""Networks by name: their parameters, their cuts and their FLOP, from closed forms and the papers."""

import pytest

from emulator.shapes.catalog import model_spec, price_names
from emulator.shapes.convnet_catalog import builtin_convnet, convnet_names, convnet_spec


def test_alexnet_has_the_parameters_and_the_cut_of_the_released_code() -> None:
    network = convnet_spec("alexnet", 10)

    # arXiv 2311.13348, released code: 2.25 M parameters below the cut, 33.6 M above; 256 x 4 x 4 features
    assert network.n_bottom_parameters == (
        (3 * 9 + 1) * 64 + (64 * 9 + 1) * 192 + (192 * 9 + 1) * 384 + (384 * 9 + 1) * 256 + (256 * 9 + 1) * 256
    )
    assert network.n_bottom_parameters / 1e6 == pytest.approx(2.25, abs=0.005)
    assert (network.n_parameters - network.n_bottom_parameters) / 1e6 == pytest.approx(33.6, abs=0.05)
    assert network.n_features == 256 * 4 * 4 == 4096


def test_vgg16_has_the_parameters_of_its_paper_and_the_cut_of_the_released_code() -> None:
    network = convnet_spec("vgg16-bn", 1000)

    # Simonyan and Zisserman 2015, table 2: 138 M with 224 pixels, of which the first linear map has 25,088 x 4,096
    at_224 = network.n_parameters - (12_800 - 25_088) * 4096
    assert at_224 / 1e6 == pytest.approx(138.4, abs=0.1)
    assert network.n_features == 512 * 5 * 5 == 12_800
    assert (network.n_layers, network.cut) == (16, 13)


def test_a_convolution_costs_its_kernel_at_every_position() -> None:
    first = convnet_spec("alexnet", 10).layers[0]

    assert first.forward_flop == 2 * (3 * 3 * 3) * 64 * 32 * 32
    assert (first.n_inputs, first.n_unpooled, first.n_outputs) == (3 * 32 * 32, 64 * 32 * 32, 64 * 16 * 16)


def test_the_built_in_network_takes_on_the_shape_of_the_images() -> None:
    network = builtin_convnet((3, 9, 7), 5)

    assert network.layers[0].weight == (16, 3, 3, 3)
    assert network.layers[1].pooled == (5, 4)  # rounded up
    assert network.n_features == 32 * 5 * 4
    assert [layer.weight for layer in network.layers[network.cut :]] == [(64, 32 * 5 * 4), (5, 64)]


def test_networks_are_found_among_the_priced_models() -> None:
    assert set(convnet_names()) == {"alexnet", "vgg16-bn"} <= set(price_names())
    assert model_spec("alexnet", n_labels=10, seq_len=128, head="full") == convnet_spec("alexnet", 10)
