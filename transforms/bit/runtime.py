"""TensorFlow, imported without its chatter and told to share the GPU's memory.

Every module that needs TensorFlow takes it from here. Importing it takes seconds.
"""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator

from . import machine

__all__ = ["on_gpu", "set_threads", "streams", "tf"]

_log = logging.getLogger(__name__)

_NOISE = re.compile(
    rb"^(WARNING: All log messages before absl::InitializeLog|I0000 "
    rb"|E0000 .*failed call to cuInit)"
)
"""What TensorFlow 2.21 prints on import and on its first look for devices, whatever
TF_CPP_MIN_LOG_LEVEL says: its log is not set up yet."""


@contextlib.contextmanager
def _without_noise() -> Iterator[None]:
    """Holds back what is written to stderr, then writes it less the known noise.

    The lines come from C++, so the file descriptor itself is redirected.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") != "2":
        # Somebody set it: they want to see what there is.
        yield
        return
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            lines = (line for line in held if not _NOISE.match(line))
            os.write(2, b"".join(lines))


_GPU_STREAMS = 2


def on_gpu() -> bool:
    """Whether TensorFlow sees a GPU, which is then where it runs."""
    return bool(tf.config.list_physical_devices("GPU"))


def set_threads(threads: int) -> None:
    """Sets how many threads share an operation, for the whole process.

    Once something has run they are what they are, and stay.

    Args:
      threads: 0: TensorFlow's own choice.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        _log.debug("TensorFlow runs already: its threads stay as they are")


def streams() -> int:
    """Steps that fill the device together.

    On a GPU two: the pixels of one are copied while the other computes.
    """
    if on_gpu():
        return _GPU_STREAMS
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return machine.cores() // threads or 1 if threads else 1


def _prepare_gpus() -> None:
    """Makes GPUs share their memory, and mean float32 when they say so."""
    # Otherwise float32 convolutions have 10 bits of mantissa on an Ampere GPU.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    # TensorFlow would take all of every GPU at once.
    try:
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
    except RuntimeError:
        # Somebody in this process has used the devices; the choice was theirs.
        _log.debug("GPUs are in use: their memory settings stay")


with _without_noise():
    import tensorflow as tf

    _prepare_gpus()
    if not on_gpu():
        set_threads(1)
