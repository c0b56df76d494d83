"""What is left to this process: of the machine, and of the control groups (v1 or v2) that it is in.

Containers and batch systems set limits on control groups; those of every group above the process's own hold, too.
"""

import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_VMSTAT = Path("/proc/vmstat")


def memory_left_bytes(groups: Path = _GROUPS, mount: Path = _MOUNT, meminfo: Path = _MEMINFO) -> int | None:
    """Memory that a new process could take without swapping; None where the system does not tell (Linux does)."""
    available = _meminfo_bytes("MemAvailable", meminfo)
    left = [] if available is None else [available]
    for folder in _folders("memory", groups, mount):
        for limit_file, used_file, cache_key in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(folder / limit_file), _number(folder / used_file)
            if limit is not None and used is not None:
                # Files that were read count as used, and are dropped when the memory is wanted.
                cached = _counts(folder / "memory.stat").get(cache_key, 0)
                left.append(max(0, limit - max(0, used - cached)))
    return min(left, default=None)


def machine_memory_bytes(meminfo: Path = _MEMINFO) -> int:
    """The memory of the machine, whoever uses it."""
    total = _meminfo_bytes("MemTotal", meminfo)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if total is None else total


def tasks_left(groups: Path = _GROUPS, mount: Path = _MOUNT) -> int | None:
    """How many more processes and threads may be started; None where nothing limits them."""
    left = []
    for folder in _folders("pids", groups, mount):
        limit, used = _number(folder / "pids.max"), _number(folder / "pids.current")
        if limit is not None and used is not None:
            left.append(max(0, limit - used))
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and os.geteuid() != 0:  # root is exempt
        left.append(max(0, soft - _own_tasks()))
    return min(left, default=None)


def n_ended_for_memory(vmstat: Path = _VMSTAT) -> int:
    """How many processes of this machine the kernel has ended for want of memory since it started; 0 if unknown."""
    return _counts(vmstat).get("oom_kill", 0)


def n_cores(groups: Path = _GROUPS, mount: Path = _MOUNT) -> int:
    """Cores that this process may use, at least one; a share of a core counts as one."""
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = []
    for folder in _folders("cpu", groups, mount):
        words = _text(folder / "cpu.max").split() or [
            _text(folder / "cpu.cfs_quota_us").strip(),
            _text(folder / "cpu.cfs_period_us").strip(),
        ]
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
            quotas.append(math.ceil(int(words[0]) / int(words[1])))
    return max(1, min([number, *quotas]))


def _folders(controller: str, groups: Path, mount: Path) -> Iterator[Path]:
    """The folders of the groups that this process is in, from its own to the root, as far as they can be seen."""
    for line in _text(groups).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            roots = [mount, mount / "unified"]
        elif controller in controllers.split(","):
            roots = [mount / controllers, mount / controller]
        else:
            continue
        for root in [root for root in roots if root.is_dir()][:1]:
            group = root.joinpath(*Path(path).parts[1:])
            # A container may see its own group as the root, under a path that only the host knows.
            while group != root:
                if group.is_dir():
                    yield group
                group = group.parent
            yield root


def _meminfo_bytes(key: str, meminfo: Path) -> int | None:
    found = [line.split()[1] for line in _text(meminfo).splitlines() if line.startswith(f"{key}:")]
    return 1024 * int(found[0]) if found else None


def _own_tasks() -> int:
    """Processes and threads of this user."""
    number = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid == os.getuid():
                number += len(list((folder / "task").iterdir()))
        except OSError:  # it has ended
            continue
    return number


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _counts(path: Path) -> dict[str, int]:
    pairs = [line.split() for line in _text(path).splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
