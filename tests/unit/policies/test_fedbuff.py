"""FedBuff: its step in closed form, and what its parameters change."""

import numpy as np
import pytest

from emulator.algorithms.aggregation import Contribution
from emulator.errors import ConfigError
from emulator.forms.lora import LoraForm
from emulator.policy.catalog import build_policy
from emulator.records import Assignment, Update
from emulator.testing import small_testbed, tiny_model
from emulator.testing.compare import same
from policies.fedbuff import FedBuff, buffered_step
from policies.fedlora import FedLora


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def update(value: float, n_examples: int = 1, staleness: int = 0, base: float | None = None) -> Update:
    return Update(
        device_id=0,
        assignment=Assignment(device_id=0, n_steps=1, batch_size=1, learning_rate=0.1),
        payload={"head.w": f32(value)},
        n_examples=n_examples,
        metrics={},
        staleness=staleness,
        base=None if base is None else {"head.w": f32(base)},
    )


def merged(policy: FedBuff, *updates: Update) -> float:
    return float(policy.aggregate(LoraForm(ranks=()), {"head.w": f32(2.0)}, updates)["head.w"][0])


def test_the_step_is_the_paper_s_sum_over_k() -> None:
    # The state is 2. A fresh change of +3; one of 4 - 1 that missed three aggregations and counts half; K = 2.
    assert merged(FedBuff(), update(5.0), update(4.0, staleness=3, base=1.0)) == 2 + (3 + 3 / 2) / 2


def test_a_buffer_that_is_stale_as_a_whole_moves_the_server_less() -> None:
    assert merged(FedBuff(), update(5.0, staleness=3, base=2.0)) == 2 + 3 / 2


def test_examples_weigh_unless_told_not_to() -> None:
    updates = update(5.0, n_examples=3), update(3.0, n_examples=1)

    assert merged(FedBuff(), *updates) == 2 + (3 * 3 + 1 * 1) / 4
    assert merged(FedBuff(weight_by_examples=False), *updates) == 2 + (3 + 1) / 2


def test_the_server_s_learning_rate_scales_the_step() -> None:
    assert merged(FedBuff(server_learning_rate=0.5), update(5.0)) == 2 + 0.5 * 3


def test_what_nobody_holds_stays() -> None:
    state = {"w": f32(1.0, 2.0), "unheld": f32(7.0)}
    half = Contribution(weight=1, arrays={"w": f32(3.0, 0.0)}, support={"w": np.array([True, False])})

    after = buffered_step(state, [half], 1.0)

    assert {name: array.tolist() for name, array in after.items()} == {"w": [3.0, 2.0], "unheld": [7.0]}


def test_a_round_is_as_short_as_its_fastest_devices() -> None:
    [buffered], [flat] = (small_testbed(policy, n_devices=3).play(1) for policy in (FedBuff(buffer_size=1), FedLora()))

    assert buffered.plan.assignments == flat.plan.assignments
    done_s = [flat.report.end_s - seen.waiting_s for seen in flat.report.devices.values()]
    assert buffered.report.end_s == pytest.approx(min(done_s), rel=1e-12)


def test_nobody_waits() -> None:
    for played in small_testbed(FedBuff(buffer_size=4)).play(5):
        assert all(seen.waiting_s == 0 for seen in played.report.devices.values())
        assert not same(played.before, played.after)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"buffer_size": 0}, r"buffer_size .* greater than or equal to 1, got 0"),
        ({"server_learning_rate": 0.0}, r"server_learning_rate .* greater than 0, got 0\.0"),
    ],
)
def test_impossible_parameters_are_refused(parameters: dict[str, float], message: str) -> None:
    with pytest.raises(Exception, match=message):
        build_policy("fedbuff", parameters)


@pytest.mark.parametrize(("parameters", "message"), [({"rank": 0}, "policy.rank of"), ({"depth": 5}, "depth must be")])
def test_impossible_shapes_are_refused(parameters: dict[str, int], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        build_policy("fedbuff", parameters).form(tiny_model())  # type: ignore[arg-type]
