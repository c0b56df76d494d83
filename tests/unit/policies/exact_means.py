"""Made-up updates, and the exact mean of the devices' products, formed the long way."""

import numpy as np
from numpy.typing import NDArray

from emulator.forms.lora import LoraForm, adapter_name
from emulator.policy import Policy
from emulator.records import Arrays, Update
from emulator.seeds import Seeds
from emulator.testing import small_testbed, tiny_state

N_DEVICES, N_LAYERS = 5, 3
SITES = [(layer, target) for layer in range(N_LAYERS) for target in ("query", "value")]


def one_round(policy: Policy) -> tuple[LoraForm, Arrays, list[Update], Arrays]:
    """The form, a random state, the updates of a round that starts from it, and the state that they give."""
    small = small_testbed(policy, n_devices=N_DEVICES, n_layers=N_LAYERS)
    form = small.testbed.form
    assert isinstance(form, LoraForm)
    state = tiny_state(form, small.testbed.model, Seeds(3))
    rng = np.random.default_rng(4)
    updates = []
    for device, assignment in sorted(policy.plan(small.view()).assignments.items()):
        payload = {
            name: (array + 0.3 * rng.standard_normal(array.shape)).astype(np.float32)
            for name, array in form.project(state, assignment).items()
            if form.is_trained(name, assignment, small.testbed.model)
        }
        n_examples = 10 + 7 * device
        updates.append(
            Update(device_id=device, assignment=assignment, payload=payload, n_examples=n_examples, metrics={})
        )
    return form, state, updates, policy.aggregate(form, state, updates)


def mean_of_products(updates: list[Update], layer: int, target: str, state: Arrays) -> NDArray[np.float64]:
    """``sum p_k B_k A_k``; a device that sends no A has the server's."""
    total = sum(update.n_examples for update in updates)
    name_a, name_b = (adapter_name(layer, target, matrix) for matrix in ("lora_A", "lora_B"))
    products = [
        update.n_examples / total * update.payload[name_b].astype(np.float64) @ _factor_a(update, name_a, state)
        for update in updates
    ]
    mean: NDArray[np.float64] = np.sum(products, axis=0)
    return mean


def _factor_a(update: Update, name: str, state: Arrays) -> NDArray[np.float32]:
    return update.payload[name] if name in update.payload else state[name]


def product(state: Arrays, layer: int, target: str) -> NDArray[np.float64]:
    """``B A`` of a server state."""
    lora_b = state[adapter_name(layer, target, "lora_B")].astype(np.float64)
    found: NDArray[np.float64] = lora_b @ state[adapter_name(layer, target, "lora_A")]
    return found
