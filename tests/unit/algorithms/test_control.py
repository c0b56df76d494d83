"""Control variates: the server's is the mean of all, and devices that have drifted apart come to the common optimum."""

import numpy as np
import pytest

from emulator.algorithms.control import Controls

CURVATURES, OPTIMA = np.array([1.0, 4.0]), np.array([0.0, 3.0])
"""Of two devices, whose losses are ``a / 2 (x - b)^2``; their mean is least where ``sum a (x - b) = 0``."""
COMMON = float(CURVATURES @ OPTIMA / CURVATURES.sum())
RATE, N_STEPS = 0.05, 10


def test_the_servers_control_is_the_mean_of_all_whoever_takes_part() -> None:
    rng, controls = np.random.default_rng(0), Controls(5)
    for cohort in ([0, 3], [1, 3], [3], [0, 1, 2]):
        for device in cohort:
            controls.renew(device, {"w": rng.standard_normal((2, 3)).astype(np.float32)})
        held = [controls.own[device]["w"] for device in controls.own]
        assert controls.server["w"] == pytest.approx(np.sum(held, axis=0) / 5, abs=1e-6)


def test_corrections_of_all_devices_cancel() -> None:
    rng, controls = np.random.default_rng(1), Controls(4)
    for device in (0, 2, 3):
        controls.renew(device, {"w": rng.standard_normal(7).astype(np.float32)})
    total = sum(np.asarray(controls.correction(device)["w"]) for device in range(4))
    assert total == pytest.approx(np.zeros(7), abs=1e-6)


def test_nothing_is_corrected_before_anybody_has_trained_nor_ever_of_a_single_device() -> None:
    controls = Controls(1)
    assert controls.correction(0) == {}
    controls.renew(0, {"w": np.array([0.5, -2.0], np.float32)})
    assert np.array_equal(controls.correction(0)["w"], np.zeros(2, np.float32))


def rounds(n_rounds: int, controls: Controls | None) -> float:
    """Where federated averaging of ten local steps of gradient descent comes to, from 10."""
    x = 10.0
    for _ in range(n_rounds):
        reached, means = [], []
        for device, (curvature, optimum) in enumerate(zip(CURVATURES, OPTIMA, strict=True)):
            y, gradients = x, []
            correction = controls.correction(device).get("x", np.zeros(())) if controls else 0.0
            for _ in range(N_STEPS):
                gradients.append(curvature * (y - optimum))
                y -= RATE * (gradients[-1] + float(correction))
            reached.append(y)
            means.append(np.array(np.mean(gradients)))
        if controls:
            for device, mean in enumerate(means):
                controls.renew(device, {"x": mean})
        x = float(np.mean(reached))
    return x


def test_control_variates_undo_the_drift_of_devices_that_differ() -> None:
    # A device comes from x to b + (1 - rate a)^10 (x - b); the mean of both is at rest at another place.
    kept = (1 - RATE * CURVATURES) ** N_STEPS
    drifted = float(((1 - kept) @ OPTIMA) / (1 - kept).sum())

    assert rounds(200, None) == pytest.approx(drifted, abs=1e-9)
    assert abs(drifted - COMMON) > 0.3
    assert rounds(200, Controls(2)) == pytest.approx(COMMON, abs=1e-5)
