"""The principal form: adapters and the frozen part together are the pre-trained weights."""

import numpy as np
import pytest

from emulator.forms.base import Site
from emulator.forms.lora import LoraForm, adapter_name
from emulator.forms.principal import PrincipalLoraForm
from emulator.forms.residual import residual_name
from emulator.records import Arrays
from emulator.seeds import Seeds
from emulator.testing import tiny_model

MODEL = tiny_model(n_layers=2)
RNG = np.random.default_rng(5)
FORM = PrincipalLoraForm(ranks=(3, 2), scaling=2.0)
WEIGHTS = {site: RNG.standard_normal((16, 16)).astype(np.float32) for site in FORM.sites_at_start()}


def started(form: PrincipalLoraForm) -> Arrays:
    return form.fitted(form.initial(MODEL, Seeds(0)), WEIGHTS)


def part(form: PrincipalLoraForm, arrays: Arrays, site: Site) -> np.ndarray:
    lora_b, lora_a = (arrays[adapter_name(*site, name)].astype(np.float64) for name in ("lora_B", "lora_A"))
    return form.scaling * lora_b @ lora_a


def test_all_adapted_matrices_are_asked_for() -> None:
    assert set(FORM.sites_at_start()) == {(layer, target) for layer in (0, 1) for target in ("query", "value")}
    assert LoraForm(ranks=(3, 2)).sites_at_start() == ()


@pytest.mark.parametrize("site", WEIGHTS)
def test_adapter_and_frozen_part_are_the_weights_and_the_frozen_part_has_the_smaller_singular_values(
    site: Site,
) -> None:
    arrays = started(FORM)
    frozen = WEIGHTS[site].astype(np.float64) + arrays[residual_name(*site)]
    rank = FORM.ranks[site[0]]
    sizes = np.linalg.svd(WEIGHTS[site].astype(np.float64), compute_uv=False)

    assert np.allclose(frozen + part(FORM, arrays, site), WEIGHTS[site], atol=1e-6)
    assert np.allclose(np.linalg.svd(frozen, compute_uv=False)[: 16 - rank], sizes[rank:], atol=1e-5)


def test_the_root_of_each_singular_value_is_on_either_factor() -> None:
    arrays = started(FORM)
    sizes = np.linalg.svd(WEIGHTS[0, "query"].astype(np.float64), compute_uv=False)[:3]

    norms_a = np.linalg.norm(arrays[adapter_name(0, "query", "lora_A")], axis=1)
    norms_b = np.linalg.norm(arrays[adapter_name(0, "query", "lora_B")], axis=0)
    assert np.allclose(norms_a, np.sqrt(sizes / 2.0), rtol=1e-5)
    assert np.allclose(norms_b, np.sqrt(sizes / 2.0), rtol=1e-5)


def test_at_full_rank_nothing_is_left_of_the_frozen_part() -> None:
    whole = PrincipalLoraForm(ranks=(16, 16))
    arrays = started(whole)

    for site, weight in WEIGHTS.items():
        assert np.allclose(weight + arrays[residual_name(*site)], 0, atol=1e-5)


def test_arrays_keep_the_shapes_that_they_have_before_the_weights_are_seen() -> None:
    before = FORM.initial(MODEL, Seeds(0))
    after = started(FORM)

    assert {name: array.shape for name, array in before.items()} == {name: a.shape for name, a in after.items()}
    assert all(array.dtype == np.float32 for array in after.values())
