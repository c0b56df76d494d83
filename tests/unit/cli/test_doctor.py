"""``jetbed doctor`` shows what was understood of data, model and traces, so that what is silently wrong is seen."""

from collections.abc import Sequence
from pathlib import Path

from device_profiles.catalog import load_profile
from tests.command_line import Finished, in_process, settings

SMALL = ("testbed.n_devices=2", "data.test_fraction=0.34", "training.local_steps=1", "rounds=1")

TWO_BOARDS = """\
inherits = "jetson80"
[[entries]]
device = "board.toml"
count = 2
[provenance.entries]
kind = "assumed"
source = "a test"
"""
BOARDS = Path(__file__).parents[3] / "device_profiles"


def doctor(folder: Path, *overrides: str) -> Finished:
    return in_process("doctor", "--backend", "inline", *settings((*SMALL, *overrides)), cwd=folder)


def said(folder: Path, *overrides: str) -> str:
    """What doctor prints, with the lines of a cell put together."""
    done = doctor(folder, *overrides)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


def write(path: Path, rows: Sequence[str]) -> None:
    path.write_text("\n".join(rows) + "\n")


FILMS = [f"film number {i},{'pos' if i % 2 else 'neg'}" for i in range(24)]


def test_the_token_of_padding_is_named_with_what_the_configuration_says_instead(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", ["text,label", *FILMS])
    assert "'<pad>', id 1, from the tokenizer (as in config.json)" in said(tmp_path, "data.source=a.csv")


def test_a_header_that_is_a_row_is_refused_and_columns_classes_and_an_example_are_shown(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", ["text,label", *FILMS])
    numbers = ("data.source=a.csv", "data.text_column=0", "data.label_column=1")
    refused = doctor(tmp_path, *numbers)
    assert refused.returncode == 2
    assert "looks like a header" in refused.stderr
    text = said(tmp_path, *numbers, "data.header=false")
    assert "no header line" in text
    assert "label (" in text  # among the classes
    text = said(tmp_path, "data.source=a.csv")
    assert "csv, separated by comma, quotes enclose fields, a header line: 16 training and 8 held-out rows" in text
    assert "columns text, label" in text
    assert "classes neg (8 + 4), pos (8 + 4)" in text


def test_labels_of_one_class_are_counted_together_and_classes_that_are_lost_are_named(tmp_path: Path) -> None:
    labels = ["0", "1", " 0.0", "1.0 "]
    rows = [f"film number {i},{labels[i % 4]}" for i in range(24)]
    write(tmp_path / "a.csv", ["text,label", *rows, "a rare film,2"])
    text = said(tmp_path, "data.source=a.csv")
    assert "classes 0 (8 + 4), 1 (8 + 4), 2 (1 + 0)" in text
    assert "no held-out example is of the class 2" in text


def test_texts_that_are_cut_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", ["text,label", *(f"{'long ' * 60}{row}" for row in FILMS)])
    assert "24 of 24 texts and" in said(tmp_path, "data.source=a.csv")


def test_a_trace_that_begins_late_is_refused_and_its_origin_is_shown(tmp_path: Path) -> None:
    spans = [f"{device},{1_700_000_000 + device},{1_700_900_000}" for device in range(2)]
    write(tmp_path / "t.csv", ["device_id,start_s,end_s", *spans])
    trace = ("training.enabled=false", "testbed.availability.kind=trace", "testbed.availability.trace=t.csv")
    refused = doctor(tmp_path, *trace)
    assert refused.returncode == 2
    assert "origin_s" in refused.stderr
    text = said(tmp_path, *trace, "testbed.availability.origin_s=1700000000")
    assert "availability t.csv: 2 devices, of which 1 can be reached as the run begins" in text


def test_a_trace_of_other_devices_names_them(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", ["device_id,start_s,end_s", "0,0,9000", "7,0,9000"])
    trace = ("training.enabled=false", "testbed.availability.kind=trace", "testbed.availability.trace=t.csv")
    text = said(tmp_path, *trace)
    assert "7" in text.partition("availability t.csv")[2].partition("expected here")[0]


def test_what_the_joules_of_a_board_rest_on_is_named(tmp_path: Path) -> None:
    text = said(tmp_path, "training.enabled=false", "testbed.n_devices=80")
    for name in ("jetson_tx2", "jetson_xavier_nx", "jetson_agx_xavier"):
        profile = load_profile(name)
        watts = [each for mode in profile.power_modes for each in mode.compute_range_w]
        origin = profile.provenance.get("awake_w") or profile.provenance["compute_w"]
        assert (
            f"{name}: draws {min(watts):g}–{max(watts):g} W while it computes ({origin.kind}: {origin.source})" in text
        )


def test_a_board_without_power_figures_is_named(tmp_path: Path) -> None:
    lines = (BOARDS / "jetson_nano.toml").read_text().splitlines()
    powers = ("idle_w = ", "compute_w = ", "transfer_w = ")
    without = [f"{line.partition('=')[0]}= 0" if line.startswith(powers) else line for line in lines]
    write(tmp_path / "board.toml", without)
    write(tmp_path / "cluster.toml", [TWO_BOARDS])
    text = said(tmp_path, "training.enabled=false", "testbed.cluster=cluster.toml")
    assert "its profile has no power figures, so that its energy is not known" in text
