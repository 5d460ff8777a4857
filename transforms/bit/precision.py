"""Which arithmetic a device is good at. Importing it imports TensorFlow."""

from pathlib import Path

from .runtime import tf


def resolve_precision(asked: str) -> str:
    """Turns `auto` into what the device has matrix units for, else float32."""
    return best_precision() if asked == "auto" else asked


def best_precision() -> str:
    """bfloat16 with AMX or from sm_80 on, float16 from sm_70 on, else float32."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return cpu_precision(Path("/proc/cpuinfo"))
    details = tf.config.experimental.get_device_details(gpus[0])
    return gpu_precision(details.get("compute_capability", (0, 0)))


def gpu_precision(capability: tuple[int, int]) -> str:
    """By CUDA compute capability: (7, 0) is Volta, (8, 0) is Ampere."""
    if capability >= (8, 0):
        return "bfloat16"
    return "float16" if capability >= (7, 0) else "float32"


def cpu_precision(cpuinfo: Path) -> str:
    """By the flags of the CPU; float32 where there is no such file."""
    try:
        flags = cpuinfo.read_text().split()
    except OSError:
        return "float32"
    return "bfloat16" if "amx_bf16" in flags else "float32"
