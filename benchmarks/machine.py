"""The machine that something was measured on."""

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .contest import Bar

FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
"""Of a CPU, as in /proc/cpuinfo: what decides how fast a product of matrices is."""

_GENERATIONS = {
    # Of AMD's family numbers; the model name of a virtual machine may not tell.
    ("AuthenticAMD", 25): "zen3-4",
    ("AuthenticAMD", 26): "zen5",
}


@dataclass(frozen=True)
class Machine:
    """What it is.

    Attributes:
      cpu: Its name, with what its family number adds.
      cores: That this process may use.
      flags: Of FLAGS, those it has.
      memory_gib: All of it.
      gpu: Its name; empty without one.
      load: Processes that wanted to run in the last minute.
    """

    cpu: str
    cores: int
    flags: tuple[str, ...]
    memory_gib: float
    gpu: str
    load: float

    @classmethod
    def here(cls) -> "Machine":
        """This one."""
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text()
        except OSError:
            cpuinfo = ""
        words = set(cpuinfo.split())
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return cls(
            cpu=_cpu(cpuinfo),
            cores=len(os.sched_getaffinity(0)),
            flags=tuple(flag for flag in FLAGS if flag in words),
            memory_gib=round(pages / 2**30, 1),
            gpu=_gpu(),
            load=os.getloadavg()[0],
        )

    @property
    def slug(self) -> str:
        """For names of files, as in `amd-epyc-zen5-2c`."""
        name = self.gpu or f"{self.cpu} {self.cores}c"
        return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")

    @property
    def is_busy(self) -> bool:
        """Whether others use so much of it that nothing should be measured."""
        return self.load > 0.25 * self.cores

    def suits(self, bar: Bar) -> bool:
        """Whether the bar was set on a machine of this kind."""
        return not bar.cores or (
            not self.gpu and self.cores == bar.cores and bar.flag in self.flags
        )

    def __str__(self) -> str:
        parts = [
            f"{self.cpu}, {self.cores} cores ({', '.join(self.flags)})",
            f"{self.memory_gib:g} GiB",
            self.gpu or "no GPU",
            f"Python {platform.python_version()}",
            f"load average {self.load:.2f} at the start",
        ]
        return "; ".join(parts)


def _cpu(cpuinfo: str) -> str:
    fields = dict(re.findall(r"^([^\t\n:]+?)\s*: (.*)$", cpuinfo, re.MULTILINE))
    name = fields.get("model name", platform.machine())
    name = re.sub(r"\(R\)|\(TM\)|CPU|Processor|@.*", " ", name)
    family = (fields.get("vendor_id", ""), int(fields.get("cpu family", 0)))
    return " ".join([*name.split(), _GENERATIONS.get(family, "")]).strip()


def _gpu() -> str:
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True)
    return "" if done.returncode else done.stdout.strip().partition("\n")[0]
