"""The pixels that all models are measured on."""

import numpy as np

from transforms.bit import probe


def pictures(count: int, side: int) -> np.ndarray:
    """Makes uint8 [count, side, side, 3]: the probe images again and again."""
    return np.resize(probe.probe_images(side), (count, side, side, 3))


def listed(embeddings: np.ndarray) -> list[list[float]]:
    """The embeddings of the probe images, from those of `pictures`, JSON-able."""
    return embeddings[: probe.COUNT].astype(float).tolist()
