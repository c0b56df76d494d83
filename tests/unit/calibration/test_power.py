"""Sensors are found where the kernel puts them, and watts follow from what they count."""

import threading
from pathlib import Path

import pytest

from emulator.calibration.power import find_sensor, sampled


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {name: tmp_path / name for name in ("hwmon", "iio", "rapl")}


RAILS = {
    "hwmon3/name": "ina3221\n",
    "hwmon3/in1_label": "VDD_IN\n",
    "hwmon3/in1_input": "5000\n",
    "hwmon3/curr1_input": "2000\n",
    "hwmon3/in2_label": "VDD_CPU_GPU_CV\n",
    "hwmon3/in2_input": "5000\n",
    "hwmon3/curr2_input": "800\n",
}


def test_a_rail_that_feeds_the_module_counts_alone(folders: dict[str, Path]) -> None:
    write(folders["hwmon"], RAILS | {"hwmon0/name": "cpu_thermal"})
    sensor = find_sensor(**folders)
    assert sensor is not None
    assert sensor.watts() == 10.0  # 5 V x 2 A
    assert "VDD_IN" in sensor.source


def test_without_such_a_rail_all_are_added_up(folders: dict[str, Path]) -> None:
    write(folders["hwmon"], RAILS | {"hwmon3/in1_label": "VDD_SOC", "hwmon3/in7_label": "sum of shunt voltages"})
    sensor = find_sensor(**folders)
    assert sensor is not None
    assert sensor.watts() == 14.0


def test_older_kernels_state_milliwatts(folders: dict[str, Path]) -> None:
    write(folders["iio"], {"0-0041/iio:device1/rail_name_0": "VDD_IN", "0-0041/iio:device1/in_power0_input": "7300"})
    sensor = find_sensor(**folders)
    assert sensor is not None
    assert sensor.watts() == 7.3


def test_energy_counters_give_the_mean_since_the_last_look_across_their_end(folders: dict[str, Path]) -> None:
    zone = {"name": "package-0", "energy_uj": "999000", "max_energy_range_uj": "999999"}
    write(folders["rapl"], {f"intel-rapl:0/{name}": text for name, text in zone.items()})
    now_s = iter([0.0, 10.0, 12.5])  # it is read once to see whether it can be
    sensor = find_sensor(**folders, clock=lambda: next(now_s))
    assert sensor is not None
    sensor.watts()
    (folders["rapl"] / "intel-rapl:0/energy_uj").write_text("49000")  # 1000 to the end, and 49000 from there
    assert sensor.watts() == pytest.approx(0.05 / 2.5)  # joules over seconds


def test_a_machine_without_a_sensor_has_none(folders: dict[str, Path]) -> None:
    assert find_sensor(**folders) is None
    with sampled(None) as drawn:
        pass
    assert drawn.mean_w is None


class CountingSensor:
    """Draws 1 W when it is first looked at, then 2 W, and so on."""

    source = "a test"

    def __init__(self, wanted: int) -> None:
        self.n_looks = 0
        self.is_enough = threading.Event()
        self._wanted = wanted

    def watts(self) -> float:
        self.n_looks += 1
        if self.n_looks >= self._wanted:
            self.is_enough.set()
        return float(self.n_looks)


def test_a_sensor_is_sampled_while_the_block_lasts_and_not_longer() -> None:
    sensor = CountingSensor(wanted=3)
    with sampled(sensor) as drawn:
        assert sensor.is_enough.wait(timeout=60)
    n_looks = sensor.n_looks
    # The first look only tells counters where to count from.
    assert drawn.samples_w == [float(number) for number in range(2, n_looks + 1)]
    assert drawn.mean_w == (2 + n_looks) / 2
    assert not any(thread.name.startswith("power") for thread in threading.enumerate())
