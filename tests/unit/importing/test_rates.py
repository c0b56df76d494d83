"""Importers of rates: small recordings written by hand, as the replay of a link reads what comes of them."""

from pathlib import Path

import pytest

from device_profiles.link_kinds.trace_files import read_mahimahi, read_time_rate
from device_profiles.text_files import FileError
from emulator.importing.rates import import_mahimahi, import_throughput
from emulator.importing.recording import ALL_COLUMNS, Columns, Imported

Steps = tuple[list[float], list[float], float]


def steps_of(imported: Imported, folder: Path) -> Steps:
    """Starts in seconds, rates in Mb/s and the period, as a link replays them."""
    path = folder / "imported.txt"
    path.write_text("".join(imported.lines))
    trace = read_time_rate(path)
    return trace.start_s.tolist(), (8e-6 * trace.bytes_per_s).tolist(), trace.period_s


def recording(folder: Path, text: str) -> Path:
    path = folder / "recording"
    path.write_text(text)
    return path


def has_note(imported: Imported, text: str) -> bool:
    return any(text in note for note in imported.notes)


def test_mahimahi_packets_are_counted_over_windows(tmp_path: Path) -> None:
    # 2 packets in the first half second, none in the second, 3 in the third: 12,000 bits each.
    path = recording(tmp_path, "0\n100\n1100\n1100\n1500\n")
    starts_s, rates, period_s = steps_of(imported := import_mahimahi(path, 0.5), tmp_path)

    assert (starts_s, period_s) == ([0, 0.5, 1], 1.5)
    assert rates == pytest.approx([0.048, 0, 0.072])
    assert has_note(imported, "zero rates: 1 are kept")


def test_mahimahi_carries_as_much_as_the_direct_reader_of_links_finds(tmp_path: Path) -> None:
    path = recording(tmp_path, "".join(f"{time_ms}\n" for time_ms in range(0, 4001, 7)))
    starts_s, rates, _ = steps_of(import_mahimahi(path, 1.0), tmp_path)
    direct = read_mahimahi(path, bin_s=1.0)

    assert starts_s == direct.start_s.tolist()
    assert rates[:-1] == pytest.approx((8e-6 * direct.bytes_per_s[:-1]).tolist())


def test_two_columns_are_seconds_and_megabits(tmp_path: Path) -> None:
    path = recording(tmp_path, "10.0\t4.0\n11.0\t0\n12.0\t2.5\n")

    assert steps_of(imported := import_throughput(path, ALL_COLUMNS, None), tmp_path) == ([0, 1, 2], [4, 0, 2.5], 3)
    assert has_note(imported, "0 s is 10 s of the recording")
    assert steps_of(import_throughput(path, ALL_COLUMNS, "MB/s"), tmp_path)[1] == pytest.approx([32, 0, 20])


def test_fcc_has_dates_and_bytes(tmp_path: Path) -> None:
    path = recording(
        tmp_path,
        "unit_id,dtime,bytes_sec\n"
        "1,2016-06-01 00:00:00,125000\n2,2016-06-01 00:00:01,9\n1,2016-06-01 00:00:05,250000\n",
    )

    imported = import_throughput(path, Columns(only=("unit_id", "1")), None)
    assert steps_of(imported, tmp_path) == ([0, 5], pytest.approx([1, 2]), 10)
    assert has_note(imported, "units: rates in B/s")


def test_lumos5g_has_runs_of_which_one_is_taken(tmp_path: Path) -> None:
    rows = [f"{run},{second},{10 * run + second}" for run in (1, 2) for second in range(1, 4)]
    path = recording(tmp_path, "run_num,seq_num,Throughput\n" + "\n".join(rows) + "\n")

    imported = import_throughput(path, Columns(only=("run_num", "2")), None)
    assert steps_of(imported, tmp_path) == ([0, 1, 2], [21, 22, 23], 3)
    with pytest.raises(
        FileError, match=r"goes back in time in 3 of 6 rows, .* import one at a time, in a table by --only"
    ):
        import_throughput(path, ALL_COLUMNS, None)


def test_gaps_backward_times_and_missing_rates_meet_one_rule_each(tmp_path: Path) -> None:
    rows = [(second, 8.0) for second in range(20)] + [(18, 99.0), (120, 4.0), (121, 0.0)]
    text = "time,mbps\n" + "".join(f"{time_s},{rate}\n" for time_s, rate in rows) + "122,nan\n123,\n"
    imported = import_throughput(recording(tmp_path, text), ALL_COLUMNS, None)
    starts_s, rates, period_s = steps_of(imported, tmp_path)

    # The gap of 101 s after 19 s is one step of 1 s; the row that goes back and those without a rate are not there.
    assert starts_s == [float(second) for second in range(22)]
    assert rates == [8.0] * 20 + [4.0, 0.0]
    assert period_s == 22
    assert has_note(imported, "gaps: 1 of more than 10 median steps of 1 s are cut to one such step, 100 s in all")
    assert has_note(imported, "backward times: 1 rows")
    assert has_note(imported, "missing: 2 rows")
    assert has_note(imported, "zero rates: 1 are kept")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no line"),
        ("1 2\n", "must come to 2 to 1,000,000 rates, got 1"),
        ("1 0\n2 0\n", "must carry something at some time, got rates of 0 throughout"),
        ("1 2\n2 -3\n", "line 2: a rate must be at least 0, got -3.0"),
        ("1 2\n2 inf\n", "line 2: a rate must be a finite number, got inf"),
        ("1 2\n2 3 4\n", "line 2 must be a time in s and a rate, got '2 3 4'"),
        ("time,speed\n1,2\n", "name one by --rate-column"),
        ("time,mbps\n1,2\n2\n", "line 3 must have 2 fields as the header has, got '2'"),
        ("time,mbps\nsoon,2\n", "line 2: a time must be seconds or a date and time such as"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FileError) as refused:
        import_throughput(recording(tmp_path, text), ALL_COLUMNS, None)
    assert message in str(refused.value)


def test_an_unknown_column_needs_its_unit(tmp_path: Path) -> None:
    path = recording(tmp_path, "time,speed\n0,1000\n1,3000\n")
    columns = Columns(rate="speed")

    with pytest.raises(
        FileError, match="does not say the unit of its rates; name it by --unit, one of b/s, kb/s, Mb/s"
    ):
        import_throughput(path, columns, None)
    assert steps_of(import_throughput(path, columns, "kb/s"), tmp_path)[1] == pytest.approx([1, 3])


@pytest.mark.parametrize(
    ("text", "message"), [("x\n", "line 1 must be a whole number"), ("5\n", "2 to 1,000,000 windows")]
)
def test_what_is_no_recording_of_mahimahi_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FileError, match=message):
        import_mahimahi(recording(tmp_path, text), 1.0)
