"""How a comparison shows the heterogeneity of devices."""

from pathlib import Path

from emulator.analysis import compare
from emulator.report.terminal.comparison import blocks
from emulator.results.reader import load_run
from tests.made_runs import write_run


def test_scores_of_devices_have_three_digits_and_their_variation_is_in_per_cent(tmp_path: Path) -> None:
    # Device 0 takes 10 s, device 1 takes 5 s: 7.5 ± 2.5 s, and 9 s until 80 % have reported.
    compared = compare([load_run(write_run(tmp_path / "run", [0.1, 0.2]))])

    (block,) = (each for each in blocks(compared) if each.title.startswith("heterogeneity"))

    assert list(block.headers) == ["group", "DevMC-R", "DevMC-T", "InterMC-R", "variation of round times %"]
    assert [list(row[1:]) for row in block.rows] == [["1.000", "1.450", "1.000", "33.3"]]
