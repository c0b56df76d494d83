"""How many devices share a pass follows from the model and the configuration alone."""

from dataclasses import replace

import pytest

from emulator.backends.content import numeric_settings
from emulator.backends.stack_size import all_that_fit, enough_for_a_core
from emulator.config import load_config
from emulator.shapes.catalog import model_spec

BERT = model_spec("bert-base", n_labels=2, seq_len=32, head="output")


@pytest.mark.parametrize(
    ("width", "batch_size", "seq_len", "expected"),
    [
        (64, 8, 32, 16),  # 64 KiB a device would be 32; more than 16 gain nothing
        (256, 8, 32, 8),  # 256 KiB each, of 2 MiB
        (384, 8, 32, 5),
        (256, 16, 64, 2),
        (768, 16, 128, 1),
    ],
)
def test_the_wider_a_device_the_fewer_share_a_pass_on_a_core(
    width: int, batch_size: int, seq_len: int, expected: int
) -> None:
    assert enough_for_a_core(replace(BERT, hidden_size=width, seq_len=seq_len), batch_size) == expected


def test_on_a_gpu_as_many_share_a_pass_as_its_memory_takes_and_twice_as_many_at_half_the_bytes() -> None:
    # 12 layers x 16 x 128 tokens x 768 units x 34 bytes are 642 MB in bfloat16: 26 of them in 16 GiB, 13 in float32.
    wide = replace(BERT, seq_len=128)

    assert all_that_fit(wide, 16, 2) == 26
    assert all_that_fit(wide, 16, 4) == 13


def test_the_built_in_model_trains_in_stacks_of_sixteen_and_a_number_that_is_given_holds() -> None:
    assert numeric_settings(load_config(None)).devices_stacked == 16
    assert numeric_settings(load_config(None, [("training.devices_stacked", 40)])).devices_stacked == 40
    assert numeric_settings(load_config(None, [("backend.devices_per_actor", 1)])).devices_stacked == 1


def test_what_the_machine_has_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = numeric_settings(load_config(None))
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")

    assert numeric_settings(load_config(None)) == before
