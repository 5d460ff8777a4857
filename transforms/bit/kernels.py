"""Weight standardization, done once at load and not in every step."""

import numpy as np

EPSILON = 1e-10
"""Added to the variance, inside the square root (google-research/big_transfer,
bit_jax/models.py). timm and transformers have 1e-8, hybrid ViTs add 1e-5 outside."""

_ROWS = 1 << 20
"""Numbers in hand at a time, so that float64 does not triple a large kernel."""


def is_standardized(name: str) -> bool:
    """Whether the tensor of this name is a kernel that the network standardizes."""
    return name.endswith("/standardized_conv2d/kernel")


def standardize(kernel: np.ndarray) -> np.ndarray:
    """Gives every filter mean 0 and variance 1, in place.

    Args:
      kernel: float32 HWIO; overwritten.

    Returns:
      The same array. The arithmetic is float64, rounded once.
    """
    rows = kernel.reshape(-1, kernel.shape[-1])
    step = max(1, _ROWS // rows.shape[1])
    chunks = [rows[start : start + step] for start in range(0, len(rows), step)]
    mean = sum(chunk.sum(axis=0, dtype=np.float64) for chunk in chunks) / len(rows)
    squares = sum(np.square(chunk - mean).sum(axis=0) for chunk in chunks)
    deviation = np.sqrt(squares / len(rows) + EPSILON)
    for chunk in chunks:
        chunk[:] = (chunk - mean) / deviation
    return kernel
