"""Recorded rates are read from three formats into steps of bytes per second, and mistakes in them are reported."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from device_profiles.catalog import load_cluster, load_link
from device_profiles.link_kinds.log_normal import LogNormalLink
from device_profiles.link_kinds.replay import RateTrace
from device_profiles.link_kinds.trace import TraceLink
from device_profiles.link_kinds.trace_files import read_mahimahi, read_parquet, read_time_rate
from device_profiles.tables import ProfileError

README = Path(__file__).parents[3] / "device_profiles" / "README.md"
LINK = """
kind = "trace"
format = "time_rate"
download = "down.txt"
upload = "up.txt"
latency_ms = 30
loss_fraction = 0.01

[provenance.all]
covers = ["download", "upload", "latency_ms", "loss_fraction"]
kind = "assumed"
source = "a test"
"""


def written(folder: Path, text: str, name: str = "trace") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def as_lists(trace: RateTrace) -> tuple[list[float], list[float], float]:
    return trace.start_s.tolist(), trace.bytes_per_s.tolist(), trace.period_s


def test_each_line_of_a_mahimahi_trace_delivers_1500_bytes_at_its_millisecond(tmp_path: Path) -> None:
    trace = read_mahimahi(written(tmp_path, "0\n1\n1\n99\n100\n250\n"), bin_s=0.1)

    # Bins of 100 ms: four lines, one, and one at the end of the period, whose last bin is half as long.
    assert trace.start_s == pytest.approx([0.0, 0.1, 0.2])
    assert trace.bytes_per_s == pytest.approx([60e3, 15e3, 30e3])
    assert trace.period_s == 0.25
    assert trace.mean_bytes_per_s * trace.period_s == pytest.approx(6 * 1500)


def test_a_line_that_falls_on_the_end_of_the_period_belongs_to_its_last_bin(tmp_path: Path) -> None:
    assert as_lists(read_mahimahi(written(tmp_path, "500\n1000\n"), bin_s=1.0)) == ([0.0], [3000.0], 1.0)


def test_a_time_rate_text_has_megabits_and_its_last_rate_holds_as_long_as_the_one_before(tmp_path: Path) -> None:
    path = written(tmp_path, "# s  Mb/s\n5 8\n\n6.5 0.8\n")

    assert as_lists(read_time_rate(path)) == ([0.0, 1.5], [1e6, 1e5], 3.0)


def test_a_parquet_trace_has_both_directions(tmp_path: Path) -> None:
    table = pa.table({"time_s": [0, 2, 3], "down_bytes_per_s": [1.0, 2.0, 3.0], "up_bytes_per_s": [4, 5, 0]})
    pq.write_table(table, tmp_path / "trace.parquet")

    down, up = read_parquet(tmp_path / "trace.parquet")

    assert as_lists(down) == ([0.0, 2.0, 3.0], [1.0, 2.0, 3.0], 4.0)
    assert as_lists(up) == ([0.0, 2.0, 3.0], [4.0, 5.0, 0.0], 4.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0\n5.5\n", r"trace: line 2 must be a whole number of milliseconds, got '5.5'"),
        ("0\nfive\n", r"trace: line 2 must be a whole number of milliseconds, got 'five'"),
        ("7\n5\n", r"trace: times must ascend from 0 or later, got 5.0"),
        ("-1\n5\n", r"trace: times must ascend from 0 or later, got -1.0"),
        ("0\n0\n", r"trace: must reach beyond 0 ms, got 2 lines of 0"),
        ("# nothing\n", r"trace: must have at least one line of a whole number of milliseconds"),
    ],
)
def test_a_mistake_in_a_mahimahi_trace_is_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        read_mahimahi(written(tmp_path, text), bin_s=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1\n1\n", r"trace: line 2 must be a time in s and a rate in Mb/s, got '1'"),
        ("0 1\n1 inf\n", r"line 2 must be a time in s and a rate in Mb/s, got '1 inf'"),
        ("0 1\n0 2\n", r"trace: times must ascend from 0 or later, got 0.0"),
        ("0 1\n", r"trace: must have at least two times, got 1"),
        ("0 1\n1 -8\n", r"trace: rates must be at least 0, got -1000000.0"),
        ("0 0\n1 0\n", r"trace: must carry something at some time"),
    ],
)
def test_a_mistake_in_a_time_rate_text_is_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        read_time_rate(written(tmp_path, text))


def test_a_mistake_in_a_parquet_trace_is_reported(tmp_path: Path) -> None:
    pq.write_table(pa.table({"time_s": [0.0], "down": [1.0]}), tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"time_s": [0, 1], "down_bytes_per_s": [1.0, None], "up_bytes_per_s": [1, 1]}), tmp_path / "b.parquet"
    )

    with pytest.raises(ProfileError, match=r"a.parquet: needs the columns time_s, .*, got \['time_s', 'down'\]"):
        read_parquet(tmp_path / "a.parquet")
    with pytest.raises(ProfileError, match=r"b.parquet: must hold finite numbers only"):
        read_parquet(tmp_path / "b.parquet")
    with pytest.raises(ProfileError, match=r"trace is not Parquet"):
        read_parquet(written(tmp_path, "0 1\n"))
    with pytest.raises(ProfileError, match=r"nowhere': there is no such file"):
        read_parquet(tmp_path / "nowhere")


@pytest.fixture
def link(tmp_path: Path) -> Path:
    written(tmp_path, "0 8\n1 16\n", "down.txt")
    written(tmp_path, "0 4\n1 8\n", "up.txt")
    return written(tmp_path, LINK, "mine.toml")


def test_a_trace_link_finds_its_files_beside_its_own_and_they_count_for_its_digest(link: Path) -> None:
    spec = load_link(link)

    assert isinstance(spec, TraceLink)
    assert (spec.name, spec.latency_s, spec.loss_fraction) == ("mine", 0.03, 0.01)
    assert spec.download.bytes_per_s.tolist() == [1e6, 2e6]
    assert spec.upload.bytes_per_s.tolist() == [0.5e6, 1e6]
    before = spec.sha256
    written(link.parent, "0 4\n1 9\n", "up.txt")
    assert load_link(link).sha256 != before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"time_rate"', '"timerate"', r"mine.toml: format must be one of .*; did you mean time_rate"),
        ('"down.txt"', '"dawn.txt"', r"dawn.txt': there is no such file"),
        ('"download", ', "", r"mine.toml: download has no provenance"),
        ("loss_fraction = 0.01", "loss_fraction = 1", r"mine.toml: loss_fraction must be below 1, got 1"),
        (', "loss_fraction"]', "]", r"mine.toml: loss_fraction has no provenance"),
        ("latency_ms = 30", "latency_ms = 30\nbin_ms = 10", r"mine.toml: bin_ms is not a key here"),
        ('"time_rate"', '"mahimahi"', r"mine.toml: bin_ms is missing|bin_ms has no provenance"),
    ],
)
def test_a_mistake_in_a_trace_link_names_the_file_and_the_key(link: Path, old: str, new: str, message: str) -> None:
    assert old in LINK
    link.write_text(LINK.replace(old, new, 1))
    with pytest.raises(ProfileError, match=message):
        load_link(link)


def test_the_rates_of_home_wifi_are_those_that_its_provenance_derives() -> None:
    spec = load_link("home-wifi")

    assert isinstance(spec, LogNormalLink)
    for key, (low, median, high) in {"download": (3658, 4318, 7271), "upload": (2632, 3286, 5141)}.items():
        sigma = np.log(high / low) / 1.349  # quartiles of a normal distribution are 1.349 deviations apart
        mean_bytes_per_s = 1e3 * median * np.exp(sigma**2 / 2)
        assert getattr(spec, f"{key}_bytes_per_s") == pytest.approx(mean_bytes_per_s, rel=0.02)
        assert spec.device_variation_fraction == pytest.approx(np.sqrt(np.expm1(sigma**2)), rel=0.04)


SHARED = """
inherits = "jetson80"

[access_points]
count = 2
consecutive_devices = 1
mbit_per_s = 80

[server]
egress_mbit_per_s = 800
ingress_mbit_per_s = 400

[provenance.all]
covers = ["access_points", "server"]
kind = "assumed"
source = "a test"
"""


def test_a_cluster_says_what_its_devices_share(tmp_path: Path) -> None:
    cluster = load_cluster(written(tmp_path, SHARED, "mine.toml"))

    assert cluster.access_points is not None
    assert cluster.server is not None
    assert (cluster.access_points.count, cluster.access_points.bytes_per_s) == (2, 1e7)
    assert (cluster.server.egress_bytes_per_s, cluster.server.ingress_bytes_per_s) == (1e8, 5e7)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "count = 2",
            "count = 0",
            r"mine.toml: access_points.count must be a whole number of at least 1 and at most 2147483647, got 0",
        ),
        ("mbit_per_s = 80\n", "mbit_per_s = 0\n", r"mine.toml: access_points.mbit_per_s must be a number above 0"),
        ("ingress_mbit_per_s = 400\n", "", r"mine.toml: server.ingress_mbit_per_s is missing"),
        ("count = 2", "count = 2\nduplex = true", r"mine.toml: access_points.duplex is not a key here"),
        ('"access_points", ', "", r"mine.toml: access_points has no provenance"),
    ],
)
def test_a_mistake_in_what_is_shared_names_the_file_and_the_key(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in SHARED
    with pytest.raises(ProfileError, match=message):
        load_cluster(written(tmp_path, SHARED.replace(old, new, 1), "mine.toml"))


def test_the_examples_of_the_readme_are_valid(tmp_path: Path) -> None:
    blocks = [block.lstrip() for block in README.read_text().split("```")[1::2]]
    [shared] = [block for block in blocks if block.startswith("[access_points]")]
    [trace] = [block for block in blocks if block.startswith('kind = "trace"')]
    provenance = SHARED[SHARED.index("[provenance.all]") :]
    cluster = load_cluster(written(tmp_path, f'inherits = "jetson80"\n{shared}\n{provenance}', "example.toml"))
    example = load_cluster("jetson80-shared-wifi")
    assert (cluster.access_points, cluster.server) == (example.access_points, example.server)

    for name in ("lte.down", "lte.up"):
        written(tmp_path, "0\n500\n1500\n", name)
    covers = '"download", "upload", "bin_ms", "latency_ms", "loss_fraction"'
    text = trace.replace('"download", "upload"', covers)
    read = load_link(written(tmp_path, text, "lte.toml"))
    assert isinstance(read, TraceLink)
    assert read.upload.bytes_per_s.tolist() == [3000.0, 3000.0]  # 2 lines in 1 s, 1 line in the half second after


def test_a_recording_in_epoch_time_is_refused_and_its_origin_can_be_given(tmp_path: Path) -> None:
    path = written(tmp_path, "1574857600000\n1574857600500\n1574857601000\n")

    with pytest.raises(ProfileError, match=r"nothing passes before 1,574,857,600 s, .* give origin_s = 1574857600 in"):
        read_mahimahi(path, bin_s=1.0)
    # Three packets of 1500 bytes in one second.
    assert as_lists(read_mahimahi(path, bin_s=1.0, origin_s=1574857600.0)) == ([0.0], [4500.0], 1.0)
    with pytest.raises(ProfileError, match=r"ends before origin_s, got 2000000000.0 and 1574857601.0 s"):
        read_mahimahi(path, bin_s=1.0, origin_s=2e9)


def test_more_bins_than_can_be_replayed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"5 s in bins of 1e-05 ms are 500,000,000 bins, .* 1,000,000; raise bin_ms"):
        read_mahimahi(written(tmp_path, "0\n5000\n"), bin_s=1e-8)


def test_a_recording_with_rates_begins_at_its_origin(tmp_path: Path) -> None:
    path = written(tmp_path, "100 8\n102 16\n105 24\n")

    assert as_lists(read_time_rate(path, origin_s=103.0)) == ([0.0, 2.0], [2e6, 3e6], 4.0)
    with pytest.raises(ProfileError, match=r"origin_s must lie within the recording, 100.0 to 105.0 s, got 99.0"):
        read_time_rate(path, origin_s=99.0)


def test_files_of_links_may_begin_with_a_mark_and_lie_in_the_home(
    link: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    link.write_bytes(b"\xef\xbb\xbf" + link.read_bytes().replace(b'"down.txt"', b'"~/down.txt"'))
    (tmp_path / "down.txt").write_bytes(b"\xef\xbb\xbf0 8\n1 16\n")

    assert load_link("~/mine.toml").download.bytes_per_s.tolist() == [1e6, 2e6]  # type: ignore[attr-defined]
    assert load_link(f"file://{link}").sha256 == load_link(link).sha256
