"""What a control group allows counts, in both versions of them, and so does every group above it."""

import os
from pathlib import Path

import pytest

from emulator.running.limits import machine_memory_bytes, memory_left_bytes, n_cores, tasks_left

GIB = 2**30


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    (tmp_path / "meminfo").write_text("MemTotal: 33554432 kB\nMemAvailable: 23068672 kB\n")  # 22 GiB
    return tmp_path / "meminfo"


def groups(tmp_path: Path, text: str) -> dict[str, Path]:
    (tmp_path / "cgroup").write_text(text)
    return {"groups": tmp_path / "cgroup", "mount": tmp_path / "fs"}


def test_without_a_group_the_machine_tells(tmp_path: Path, meminfo: Path) -> None:
    assert memory_left_bytes(**groups(tmp_path, ""), meminfo=meminfo) == 22 * GIB
    assert memory_left_bytes(tmp_path / "nothing", tmp_path / "nothing", tmp_path / "nothing") is None


def test_the_memory_of_the_machine_is_all_that_it_has_used_or_not(tmp_path: Path, meminfo: Path) -> None:
    assert machine_memory_bytes(meminfo) == 32 * GIB
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # what a system without the file is asked
    assert machine_memory_bytes(tmp_path / "none") == pages


def test_a_group_of_version_2_limits_memory_and_what_it_caches_can_be_had(tmp_path: Path, meminfo: Path) -> None:
    own = groups(tmp_path, "0::/job/step\n")
    stat = f"anon 5\ninactive_file {GIB // 2}\n"
    write(tmp_path / "fs/job/step", memory__max="max", memory__current=GIB, memory__stat=stat)
    write(tmp_path / "fs/job", memory__max=2 * GIB, memory__current=GIB, memory__stat=stat)
    assert memory_left_bytes(**own, meminfo=meminfo) == 2 * GIB - GIB // 2


def test_a_group_of_version_1_limits_memory(tmp_path: Path, meminfo: Path) -> None:
    own = groups(tmp_path, "4:memory:/job\n1:cpu:/job\n")
    write(tmp_path / "fs/memory/job", memory__limit_in_bytes=2 * GIB, memory__usage_in_bytes=GIB)
    write(tmp_path / "fs/memory", memory__limit_in_bytes=0x7FFFFFFFFFFFF000, memory__usage_in_bytes=3 * GIB)
    assert memory_left_bytes(**own, meminfo=meminfo) == GIB


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path, meminfo: Path) -> None:
    own = groups(tmp_path, "0::/docker/0123\n")
    write(tmp_path / "fs", memory__max=2 * GIB, memory__current=3 * GIB)
    assert memory_left_bytes(**own, meminfo=meminfo) == 0


@pytest.mark.parametrize(("text", "folder"), [("0::/job\n", "fs/job"), ("8:pids:/job\n", "fs/pids/job")])
def test_processes_that_may_still_be_started_are_counted(tmp_path: Path, text: str, folder: str) -> None:
    own = groups(tmp_path, text)
    write(tmp_path / folder, pids__max=100, pids__current=40)
    left = tasks_left(**own)
    assert left is not None
    assert left <= 60
    write(tmp_path / folder, pids__max="max", pids__current=40)
    assert tasks_left(**own) != 60


def test_a_share_of_a_core_is_a_core(tmp_path: Path) -> None:
    write(tmp_path / "fs/job", cpu__max="50000 100000")
    assert n_cores(**groups(tmp_path, "0::/job\n")) == 1
    write(tmp_path / "fs/cpu,cpuacct/job", cpu__cfs_quota_us="100000", cpu__cfs_period_us="100000")
    assert n_cores(**groups(tmp_path, "1:cpu,cpuacct:/job\n")) == 1
    write(tmp_path / "fs/cpu,cpuacct/job", cpu__cfs_quota_us="-1")
    assert n_cores(**groups(tmp_path, "1:cpu,cpuacct:/job\n")) == n_cores(tmp_path / "nothing", tmp_path)
