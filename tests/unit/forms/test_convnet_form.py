"""A network that is cut: its first weights, what a device holds, and what crosses the network."""

import numpy as np
import pytest

from emulator.forms.convnet import ConvNetForm
from emulator.forms.cut_lora import CutLoraForm, cut_form
from emulator.records import Update
from emulator.seeds import Seeds
from emulator.shapes.convnet_catalog import builtin_convnet, convnet_spec
from emulator.testing import tiny_model

FORM, ALEXNET = ConvNetForm(), convnet_spec("alexnet", 10)
NETWORK = builtin_convnet((1, 8, 8), 10)
SETTINGS = FORM.assignment(0, n_steps=3, batch_size=64, learning_rate=0.1, top_learning_rate=0.1, merges=True)


def test_weights_start_within_the_bound_of_he_and_biases_at_zero() -> None:
    arrays = FORM.initial(NETWORK, Seeds(0))

    weight = arrays["bottom.conv2.weight"]
    assert weight.shape == (32, 16, 3, 3)
    assert 0.95 * (6 / 144) ** 0.5 < np.abs(weight).max() <= (6 / 144) ** 0.5  # fan in: 16 channels x 9
    assert not arrays["top.linear1.bias"].any()
    assert list(arrays)[-2:] == ["top.linear2.weight", "top.linear2.bias"]


def test_a_device_holds_all_below_the_cut() -> None:
    state = FORM.initial(NETWORK, Seeds(0))
    payload = FORM.project(state, SETTINGS)

    assert {name.split(".")[0] for name in payload} == {"bottom"}
    assert sum(array.nbytes for array in payload.values()) == FORM.download_bytes(SETTINGS, NETWORK)
    update = Update(device_id=0, assignment=SETTINGS, payload=payload, n_examples=1, metrics={})
    assert FORM.embed(update, state).arrays == payload


def test_bytes_of_alexnet_are_those_of_the_paper() -> None:
    """8.6 MiB of bottom each way per round; 16.4 kB of features per sample and step, and 2 bytes per label."""
    assert FORM.download_bytes(SETTINGS, ALEXNET) / 2**20 == pytest.approx(8.6, abs=0.05)
    assert FORM.step_download_bytes(SETTINGS, ALEXNET) == 64 * 16_384
    assert FORM.step_upload_bytes(SETTINGS, ALEXNET) == 64 * (16_384 + 2)


def test_the_form_follows_from_the_model() -> None:
    assert isinstance(cut_form(ALEXNET, rank=8, cut=None), ConvNetForm)
    assert isinstance(cut_form(tiny_model(), rank=8, cut=None), CutLoraForm)
    with pytest.raises(ValueError, match="alexnet is cut where its convolutions end; leave the cut out, got 3"):
        cut_form(ALEXNET, rank=8, cut=3)
    with pytest.raises(ValueError, match="ConvNetForm is for convnets"):
        FORM.check_model(tiny_model())
