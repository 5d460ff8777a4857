"""Compute Engine's machine types: their cores, and which GPUs they carry."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A GPU that Dataflow attaches to its workers.

    Attributes:
      name: As `worker_accelerator` takes it.
      family: What the machine types that carry it begin with.
      machine: A type with one such GPU and enough cores to decode for it.
    """

    name: str
    family: str
    machine: str


# cloud.google.com/compute/docs/gpus, and the types that Dataflow's own list has.
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("nvidia-l4", "g2-", "g2-standard-8"),
        Gpu("nvidia-tesla-t4", "n1-", "n1-standard-8"),
        Gpu("nvidia-tesla-v100", "n1-", "n1-standard-8"),
        Gpu("nvidia-tesla-a100", "a2-highgpu-", "a2-highgpu-1g"),
        Gpu("nvidia-a100-80gb", "a2-ultragpu-", "a2-ultragpu-1g"),
        Gpu("nvidia-h100-80gb", "a3-highgpu-", "a3-highgpu-1g"),
    )
}

_CORES_AT_END = re.compile(r"-(?:standard|highmem|highcpu|megamem|ultramem)-(\d+)$")
_CUSTOM = re.compile(r"(?:^|-)custom-(\d+)-\d+")
_GPUS_AT_END = re.compile(r"-(\d+)g$")
_CORES_PER_GPU = {"a2-highgpu-": 12, "a2-ultragpu-": 12, "a3-highgpu-": 26}
_GPUS_OF_G2 = {"g2-standard-24": 2, "g2-standard-48": 4, "g2-standard-96": 8}


def cores(machine: str) -> int | None:
    """Virtual CPUs of a machine type; None where its name does not tell."""
    found = _CORES_AT_END.search(machine) or _CUSTOM.search(machine)
    if found:
        return int(found[1])
    gpus = _GPUS_AT_END.search(machine)
    for family, each in _CORES_PER_GPU.items():
        if gpus and machine.startswith(family):
            return int(gpus[1]) * each
    return None


def built_in_gpus(machine: str) -> int | None:
    """How many GPUs a machine type has, whatever is asked for; None: any number.

    N1 takes the GPUs that are asked for; the others are sold with theirs.
    """
    found = _GPUS_AT_END.search(machine)
    if found:
        return int(found[1])
    return _GPUS_OF_G2.get(machine, 1) if machine.startswith("g2-") else None
