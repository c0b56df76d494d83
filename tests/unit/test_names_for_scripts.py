"""What ``import emulator`` offers to scripts is there, wherever it lives."""

import importlib

import pytest

import emulator


@pytest.mark.parametrize("name", emulator.__all__)
def test_every_name_that_is_offered_can_be_had(name: str) -> None:
    assert getattr(importlib.import_module("emulator"), name) is not None
