"""Every table of the command line can be read at 60 to 200 columns, with names that are long."""

from pathlib import Path

import pytest

from tests.command_line import in_process
from tests.made_runs import write_sweep

LONG = "a-policy-of-mine-with-a-rather-long-name"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = {
        f"{LONG}-{letter},{seed}": {
            "accuracies": [0.3, 0.6, 0.9], "policy": f"{LONG}-{letter}", "seed": seed,
        }
        for letter in "ab"
        for seed in (0, 1)
    }  # fmt: skip
    axes = {name: {"policy": name.partition(",")[0], "seed": int(name[-1])} for name in runs}
    return write_sweep(tmp_path_factory.mktemp("made") / "sweep", runs, axes)


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize(
    ("command", "figures"),
    [
        ("compare", ["4 runs in 2 groups", "2 of 2", "0.900"]),
        ("summary", ["0.900", "device-rounds lost"]),
        ("devices", ["jetson_agx_orin_64gb", "jetson_xavier_nx_16gb", "jetson80-shared-wifi"]),
        ("device", ["MAXP_CORE_ARM", "step_overhead_ms"]),
        ("price", ["GFLOP", "together", "uncertainty"]),
        ("policies", ["waiting_fraction", "hierfedlora"]),
    ],
)
def test_no_line_is_longer_and_no_figure_is_cut(sweep: Path, width: int, command: str, figures: list[str]) -> None:
    arguments = {
        "compare": ["compare", str(sweep)],
        "summary": ["summary", str(next(sweep.glob("run=*")))],
        "device": ["devices", "jetson_tx2"],
        "price": ["price", "jetson_tx2"],
    }.get(command, [command])
    ended = in_process(*arguments, n_columns=width)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "…" not in ended.stdout
    assert all(figure in ended.stdout for figure in figures)
    whole_lines = [line for line in ended.stdout.splitlines() if not line.startswith(("results: ", "How they"))]
    assert max(map(len, whole_lines)) <= width
