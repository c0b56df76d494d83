"""Sensors are found where the kernel puts them, and watts follow from what they count."""

import threading
from pathlib import Path

import pytest

from emulator.calibration.power import find_sensor, sampled
from emulator.errors import ConfigError


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


def rails(folder: Path, *monitors: dict[str, str], kind: str = "ina3221") -> None:
    """Monitors of 1 V, whose rails draw so many milliamperes."""
    for number, monitor in enumerate(monitors):
        files = {"name": kind}
        for channel, (label, milliamperes) in enumerate(monitor.items(), start=1):
            files |= {f"in{channel}_label": label, f"in{channel}_input": "1000", f"curr{channel}_input": milliamperes}
        write(folder / f"hwmon{number}", files)


@pytest.mark.parametrize(
    ("monitors", "watts", "named"),
    [
        # AGX Orin has no total; its memory's rail is fed by VIN_SYS_5V0.
        (
            [
                {"VDD_GPU_SOC": "5139", "VDD_CPU_CV": "3268", "VIN_SYS_5V0": "5500"},
                {"NC": "0", "VDDQ_VDD2_1V8AO": "1091"},
            ],
            13.907,
            "sum of the rails VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0",
        ),
        # AGX Xavier: six inputs.
        (
            [{"GPU": "1000", "CPU": "2000", "SOC": "3000"}, {"CV": "100", "VDDRQ": "200", "SYS5V": "300"}],
            6.6,
            "sum of the rails GPU, CPU, SOC, CV, VDDRQ, SYS5V",
        ),
        ([{"POM_5V_IN": "4000", "POM_5V_GPU": "1000", "POM_5V_CPU": "900"}], 4.0, "rail POM_5V_IN"),
        ([{"VDD_A": "1000"}, {"VDD_A": "2000"}], 3.0, "sum of the rails VDD_A (hwmon0), VDD_A (hwmon1)"),
    ],
)
def test_the_rails_of_a_family_of_boards_add_up_to_the_board(
    folders: dict[str, Path], monitors: list[dict[str, str]], watts: float, named: str
) -> None:
    rails(folders["hwmon"], *monitors)
    sensor = find_sensor(**folders)
    assert sensor is not None
    assert (sensor.source, sensor.watts()) == (named, pytest.approx(watts))


def test_a_monitor_of_the_input_is_the_board_beside_those_of_its_rails(folders: dict[str, Path]) -> None:
    rails(folders["hwmon"], {"VDD_GPU": "9000"})
    write(folders["hwmon"], {"hwmon1/name": "ina238", "hwmon1/curr1_input": "2500", "hwmon1/power1_input": "30000000"})
    sensor = find_sensor(**folders)
    assert sensor is not None
    assert (sensor.source, sensor.watts()) == ("rail ina238", 30.0)


@pytest.mark.parametrize(("reads", "said"), [("-20", "VDD_IN reads -0.02 W"), ("abc", "reads '1000' and 'abc'")])
def test_a_rail_that_cannot_be_right_is_left_out_and_named(folders: dict[str, Path], reads: str, said: str) -> None:
    rails(folders["hwmon"], {"VDD_IN": reads, "VDD_CPU": "30"})
    sensor = find_sensor(**folders)
    assert sensor is not None
    assert sensor.watts() == pytest.approx(0.03)
    assert said in sensor.source
    assert "not the whole board" in sensor.source


def test_a_monitor_that_cannot_be_read_at_all_is_no_sensor(folders: dict[str, Path]) -> None:
    rails(folders["hwmon"], {"VDD_IN": "abc"})
    assert find_sensor(**folders) is None


def test_rails_can_be_chosen(folders: dict[str, Path]) -> None:
    rails(folders["hwmon"], {"VDD_IN": "5000", "VDD_CPU": "30", "VDD_SOC": "-4"})
    sensor = find_sensor(**folders, chosen="VDD_CPU")
    assert sensor is not None
    assert (sensor.source, sensor.watts()) == ("chosen rails VDD_CPU", pytest.approx(0.03))
    with pytest.raises(ConfigError, match=r"did you mean VDD_CPU\?; it has: VDD_IN, VDD_CPU, VDD_SOC; got 'VDD_CPV'"):
        find_sensor(**folders, chosen="VDD_IN,VDD_CPV")
    with pytest.raises(ConfigError, match=r"--sensor: VDD_SOC reads -0.004 W; choose another one, or give --watts"):
        find_sensor(**folders, chosen="VDD_SOC")


class Unsteady:
    """A sensor that cannot be read twice, and then can."""

    source = "made up"

    def __init__(self) -> None:
        self.n_calls = 0
        self.is_read = threading.Event()

    def watts(self) -> float:
        self.n_calls += 1
        if self.n_calls <= 2:
            raise ValueError("no answer")
        self.is_read.set()
        return 7.0


def test_samples_that_fail_are_counted_and_the_others_go_on() -> None:
    sensor = Unsteady()
    with sampled(sensor) as drawn:
        assert sensor.is_read.wait(timeout=60)
    assert (drawn.n_unread, drawn.reason, drawn.mean_w) == (1, "no answer", 7.0)


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
