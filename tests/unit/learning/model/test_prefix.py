"""Frozen layers below the lowest adapter are computed once per sample, and the numbers stay the same."""

from typing import Any

import numpy as np
import pytest

from emulator.forms.lora import LoraForm
from emulator.learning.host import DeviceHost
from emulator.learning.settings import NumericSettings
from emulator.records import Arrays, Job
from tests.unit.learning.test_stacked_training import TASK, jobs, server_state
from tests.unit.learning.tiny_models import CONFIGS, tiny_content

FORM = LoraForm(ranks=(0, 0, 3))
OFF = NumericSettings(run_seed=7, prefix_cache_bytes=0, weight_decay=0.01)
ON = NumericSettings(run_seed=7, weight_decay=0.01)


def work(state: Arrays) -> list[Job]:
    return jobs(state, ranks=[(0, 0, 3), (0, 0, 1), (0, 0, 2)], depth=[1, 1, 1], n_steps=[4, 2, 3])


@pytest.mark.parametrize("family", CONFIGS)
def test_training_and_evaluation_agree_with_and_without(family: str, tmp_path: Any) -> None:
    content = tiny_content(family, tmp_path)
    state = server_state(content, FORM)
    without, within = DeviceHost(content, OFF), DeviceHost(content, ON)
    for _ in range(2):  # the second time everything is known
        for one, other in zip(*(host.train(TASK, FORM, work(state)) for host in (without, within)), strict=True):
            differences = [np.abs(one.payload[name] - other.payload[name]).max() for name in one.payload]
            assert max(differences) < 1e-6
        shards = [host.evaluate(FORM, state, range(10, 50)) for host in (without, within)]
        assert shards[0].loss_sum == pytest.approx(shards[1].loss_sum, rel=1e-6)
        assert shards[0].n_correct == shards[1].n_correct
    assert without.prefix()[1] == 0
    assert within.prefix()[1] > 0


def test_what_is_known_does_not_change_a_bit(tmp_path: Any) -> None:
    content = tiny_content("bert", tmp_path)
    state = server_state(content, FORM)
    fresh, used = DeviceHost(content, ON), DeviceHost(content, ON)
    used.train(TASK, FORM, work(state)[1:])
    used.train(
        TASK, LoraForm(ranks=(0, 3, 3)), jobs(server_state(content, LoraForm(ranks=(0, 3, 3))), ranks=[(0, 3, 3)])
    )
    for one, other in zip(*(host.train(TASK, FORM, work(state)) for host in (fresh, used)), strict=True):
        assert all(np.array_equal(one.payload[name], other.payload[name]) for name in one.payload)


def test_the_budget_is_kept(tmp_path: Any) -> None:
    content = tiny_content("bert", tmp_path)
    row_bytes = 16 * 16 * 4  # tokens x hidden size x float32
    host = DeviceHost(content, NumericSettings(run_seed=7, prefix_cache_bytes=50 * row_bytes, weight_decay=0.01))
    state = server_state(content, FORM)
    host.train(TASK, FORM, work(state))
    assert host.prefix()[1] == 0  # the budget holds the 50 held-out rows and no training data
    host.evaluate(FORM, state, range(50))
    assert host.prefix() == (2, 50 * row_bytes)  # FORM has adapters on the third layer only


def test_full_depth_and_dropout_start_at_the_first_layer(tmp_path: Any) -> None:
    content = tiny_content("bert", tmp_path)
    full = LoraForm(ranks=(3, 3, 3))
    host = DeviceHost(content, NumericSettings(run_seed=7, dropout=True, weight_decay=0.01))
    host.train(TASK, FORM, work(server_state(content, FORM)))
    host.train(TASK, full, jobs(server_state(content, full), ranks=[(3, 3, 3)]))
    assert host.prefix()[1] == 0
