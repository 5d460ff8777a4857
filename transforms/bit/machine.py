"""The machine that a model runs on: cores, memory, and what tells it from others."""

import hashlib
import math
import os
from collections.abc import Iterable
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
_GPUS = Path("/proc/driver/nvidia/gpus")


def cores(*, cgroup: Path = _CGROUP) -> int:
    """Cores that this process may use: by its affinity and by its container's quota."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        count = min(count, math.ceil(int(quota) / int(period)))
    return max(1, count)


def memory(*, cgroup: Path = _CGROUP) -> int:
    """Bytes of main memory that this process may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read(cgroup / "memory.max").strip()
    return min(total, int(limit)) if limit.isdigit() else total


def has_gpu(*, gpus: Path = _GPUS) -> bool:
    """Whether there is an NVIDIA GPU, as its driver says; TensorFlow is not asked."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return gpus.is_dir() and any(gpus.iterdir())


def digest(*, cpuinfo: Path = _CPUINFO, gpus: Path = _GPUS) -> str:
    """Hex; the same for machines on which a model is equally fast, as far as known."""
    models = {line for line in _read(cpuinfo).splitlines() if _tells(line)}
    cards = [_read(card / "information") for card in _folders(gpus)]
    kinds = [line for text in cards for line in text.splitlines() if "Model" in line]
    text = repr((sorted(models), cores(), sorted(kinds)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tells(line: str) -> bool:
    # Not the clock, nor the number of the core. "Features" on Arm.
    return line.startswith(("model", "stepping", "cache size", "flags", "Features"))


def _folders(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
