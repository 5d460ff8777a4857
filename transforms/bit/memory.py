"""Arrays that TensorFlow can take over as they are, without a second copy."""

import math

import numpy as np

from .architecture import Shape

ALIGNMENT = 64
"""Bytes: what TensorFlow's vector instructions expect of a tensor's address."""


def empty_tensor(shape: Shape) -> np.ndarray:
    """Makes an uninitialized float32 array at an aligned address."""
    size = 4 * math.prod(shape)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


def aligned(array: np.ndarray) -> np.ndarray:
    """The same float32 array if TensorFlow can take it over, else a copy."""
    if array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0:
        return array
    copy = empty_tensor(array.shape)
    copy[...] = array
    return copy
