"""A tiny model and made-up boards and links, on which a local step and a transfer take about a second each."""

import numpy as np

from device_profiles.link_kinds.constant import ConstantLink
from device_profiles.records import DeviceProfile, PowerMode
from emulator.forms.base import AdapterForm
from emulator.records import Arrays
from emulator.seeds import Seeds
from emulator.shapes.spec import LinearShape, ModelSpec
from emulator.world.devices import Device

SPEEDS = (1.0, 2.0, 4.0)
"""Relative speeds that devices have in turn, both of their computation and of their link."""


def tiny_model(n_layers: int = 4) -> ModelSpec:
    """An encoder of width 16 with a linear head for 3 labels, at 8 tokens."""
    return ModelSpec(
        name="tiny",
        n_layers=n_layers,
        hidden_size=16,
        n_heads=2,
        n_kv_heads=2,
        head_size=8,
        intermediate_size=32,
        gated_mlp=False,
        n_embedding_parameters=1600,
        seq_len=8,
        head={"classifier": LinearShape(in_features=16, out_features=3)},
    )


def tiny_state(form: AdapterForm, model: ModelSpec, seeds: Seeds) -> Arrays:
    """A server state of the form's shapes, with a head, in which no two numbers are alike.

    Adapters usually start with zeros, which would hide a coordinate that went to a wrong place.
    """
    shapes = {name: array.shape for name, array in form.initial(model, seeds).items()}
    for name, linear in model.head.items():
        shapes[f"head.{name}.weight"] = (linear.out_features, linear.in_features)
        if linear.has_bias:
            shapes[f"head.{name}.bias"] = (linear.out_features,)
    rng = seeds.rng("tiny_state")
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def made_up_devices(n_devices: int) -> list[Device]:
    """Boards with one power mode each, in turn as fast as :data:`SPEEDS` say."""
    return [_device(device_id, SPEEDS[device_id % len(SPEEDS)]) for device_id in range(n_devices)]


def made_up_links(n_devices: int) -> list[ConstantLink]:
    """Links that download as fast as :data:`SPEEDS` say, and upload at half of that."""
    speeds = [SPEEDS[device_id % len(SPEEDS)] for device_id in range(n_devices)]
    return [
        ConstantLink(
            name=f"made-up-{speed:g}",
            download_bytes_per_s=4e3 * speed,
            upload_bytes_per_s=2e3 * speed,
            latency_s=0.01,
            provenance={},
            sha256="",
        )
        for speed in speeds
    ]


def _device(device_id: int, speed: float) -> Device:
    mode = PowerMode(
        name="only",
        mode_id=0,
        effective_flop_per_s={"fp32": 1e6 * speed, "amp": 2e6 * speed},
        memory_bytes_per_s=1e9,
        step_overhead_s=0.01,
        idle_w=1.0,
        compute_w=5.0,
        transfer_w=2.0,
    )
    profile = DeviceProfile(
        name=f"made-up-{speed:g}",
        title="A made-up board",
        memory_bytes=2**30,
        usable_memory_bytes=2**29,
        power_modes=(mode,),
        default_mode="only",
        provenance={},
        sha256="",
    )
    return Device(device_id, profile, profile.power_modes)
