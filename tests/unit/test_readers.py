"""Whatever bytes a user's file has: it is read, or one sentence says why not, in little memory and time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_profiles.catalog import load_cluster, load_link, load_profile
from emulator.config import AvailabilityConfig, load_config
from emulator.results.reader import load
from emulator.running.inputs import availability_of
from emulator.seeds import Seeds
from emulator.sweeps.spec import read_spec
from tests.readers import refusal

FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

LINK = """
kind = "trace"
format = "{format}"
latency_ms = 30
{files}
[provenance.all]
covers = ["latency_ms", {keys}]
kind = "assumed"
source = "a test"
"""
MAHIMAHI = 'download = "f"\nupload = "f"\nbin_ms = 1'


def link(folder: Path, form: str) -> Path:
    """A link whose recording is the file ``f`` beside it."""
    files, keys = (MAHIMAHI, '"download", "upload", "bin_ms"') if form == "mahimahi" else (
        'download = "f"\nupload = "f"', '"download", "upload"')  # fmt: skip
    if form == "parquet":
        files, keys = 'trace = "f"', '"trace"'
    path = folder / "link.toml"
    path.write_text(LINK.format(format=form, files=files, keys=keys))
    return path


def trace(path: Path) -> object:
    """An availability trace, as a run is given it."""
    config = AvailabilityConfig(kind="trace", trace=str(path))
    return availability_of(config, 3, Seeds(0))


def parquet_trace(folder: Path) -> object:
    return trace((folder / "f").rename(folder / "f.parquet"))


def _recording(form: str) -> Callable[[Path], object]:
    return lambda folder: load_link(link(folder, form))


READERS: dict[str, Callable[[Path], object]] = {
    "profile": lambda folder: load_profile(folder / "f"),
    "cluster": lambda folder: load_cluster(folder / "f"),
    "link": lambda folder: load_link(folder / "f"),
    "configuration": lambda folder: load_config(folder / "f"),
    "sweep file": lambda folder: read_spec(folder / "f"),
    "availability": lambda folder: trace(folder / "f"),
    "availability in Parquet": parquet_trace,
    "mahimahi": _recording("mahimahi"),
    "time_rate": _recording("time_rate"),
    "rates in Parquet": _recording("parquet"),
}

WORDS = st.sampled_from(
    [b"device_id", b"start_s", b"end_s", b",", b"\n", b" ", b"0", b"1", b"1e400", b"-1", b"nan", b"9" * 400, b"[", b"]",
     b"[[", b"{", b"}", b"=", b'"', b"'''", b"a.b", b"kind", b"#", b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\xe9",
     b"PAR1", b"1574857600000\n", b"true", b"2020-01-01", b"axes", b"inherits", b"device",
     b"power_mode", b"rounds", b"policy"]
)  # fmt: skip
CONTENTS = st.one_of(st.binary(max_size=300), st.lists(WORDS, max_size=40).map(b"".join))


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@FUZZ
@given(content=CONTENTS)
def test_any_bytes_are_read_or_refused(tmp_path: Path, reader: Callable[[Path], object], content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    refusal(lambda: reader(tmp_path))


LARGE = {
    "many lists": b"a = " + b"[" * 200_000,
    "a key of many parts": b".".join([b"a"] * 400_000) + b" = 1",
    "a header of many parts": b"[" + b".".join([b"a"] * 400_000) + b"]",
    "an inline key of many parts": b"x = {" + b".".join([b"a"] * 400_000) + b" = 1}",
    "many keys": b"".join(b"k%d = 1\n" % number for number in range(80_000)),
    "many lines": b"0 1\n" * 3_000_000,
    "many opportunities": b"0\n" * 6_000_000,
    "one long line": b"1 " * 20_000_000,
    "an epoch": b"1574857600000\n1574857600500\n",
    "a far end": b"0\n1000000000000000\n",
    "many spans": b"device_id,start_s,end_s\n" + b"0,1,2\n" * 900_000,
    "too many spans": b"device_id,start_s,end_s\n" + b"0,1,2\n" * 1_100_000,
    "more than is allowed": b"#" * (2**26 + 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("content", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("name", READERS)
def test_large_files_take_little_memory_and_time(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    refusal(lambda: READERS[name](tmp_path))


def test_sizes_of_parquet_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    # A column of one value, 50 million times, is a file of some kilobytes.
    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(5_000_000, dtype=np.int32)), pa.array([1.0]))
    table = pa.table(dict.fromkeys(("device_id", "start_s", "end_s"), one))
    table = table.cast(pa.schema([(name, pa.float64()) for name in table.column_names]))
    pq.write_table(pa.concat_tables([table] * 2), tmp_path / "f.parquet")
    assert (tmp_path / "f.parquet").stat().st_size < 2**20
    assert "may list 1,000,000 spans, got 10,000,000" in (refusal(lambda: trace(tmp_path / "f.parquet")) or "")


@FUZZ
@given(content=CONTENTS, place=st.integers(0, 3))
def test_any_bytes_in_a_folder_of_a_run_are_read_or_refused(tmp_path: Path, content: bytes, place: int) -> None:
    run = tmp_path / "run"
    (run / "rounds").mkdir(parents=True, exist_ok=True)
    info: dict[str, Any] = {"schema_version": 1, "status": "finished", "policy": "fedlora", "seed": 0}
    (run / "run.json").write_text(json.dumps(info))
    (run / "sweep.json").unlink(missing_ok=True)
    if place == 3:
        (run / "run.json").unlink()
    names = ("run.json", "rounds/part-00000.parquet", "sweep.json", "sweep.json")
    (run / "index.parquet").write_bytes(content)
    (run / names[place]).write_bytes(content)
    refusal(lambda: load(run).rounds)
