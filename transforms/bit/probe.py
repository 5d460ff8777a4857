"""Probe images, and how far two models' answers to them lie apart."""

from dataclasses import dataclass

import numpy as np

COUNT = 4
SMALL_SIDE = 64
"""Of probes for two graphs that must do the same: borders are the more of a small
image, and a SavedModel that standardizes its kernels in every step needs twice its
weights' memory as it is."""
_MAX_SIDE = 224


@dataclass(frozen=True)
class Outputs:
    """What a model makes of the probe images.

    Attributes:
      features: float32 [n, D]; None: it gives none.
      logits: float32 [n, classes]; None: it has no head.
    """

    features: np.ndarray | None
    logits: np.ndarray | None


def probe_side(image_size: int) -> int:
    """Side of the probe images: the model's own, or less, to save time."""
    return min(image_size, _MAX_SIDE)


def probe_images(side: int) -> np.ndarray:
    """Makes pictures with something of everything: slopes, edges, texture, noise.

    Returns:
      uint8 [COUNT, side, side, 3], always the same.
    """
    # Raw bits, whose stream NumPy promises never to change.
    bits = np.random.Philox(key=2019).random_raw(COUNT * side * side)
    noise = (bits.view(np.uint8).reshape(COUNT, side, side, 8)[..., :3]) / 255 - 0.5
    y, x = np.mgrid[0:side, 0:side][..., None] / side
    phase = np.array([0.0, 2.1, 4.2])
    pictures = [
        np.broadcast_to((x + y) / 2, (side, side, 3)),
        np.sin(9 * x + phase) * np.cos(7 * y + phase) / 2 + 0.5,
        (np.hypot(x - 0.5, y - 0.4) < np.array([0.2, 0.3, 0.4])) * 0.8 + 0.1,
        np.floor(6 * x + phase) % 2 * 0.5 + np.floor(4 * y) % 2 * 0.5,
    ]
    strength = np.array([0.05, 0.1, 0.02, 0.6])[:, None, None, None]
    images = np.clip(np.stack(pictures) + strength * noise, 0, 1)
    return np.round(images * 255).astype(np.uint8)


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference, relative to the largest value of its row."""
    scale = np.abs(theirs).max(axis=1, keepdims=True)
    return float((np.abs(ours - theirs) / np.maximum(scale, 1e-12)).max())


def least_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Cosine of the two embeddings of the image where they differ most.

    0 where an embedding is not finite, or is nothing.
    """
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = (ours * theirs).sum(axis=1) / np.maximum(norms, 1e-300)
    return float(np.nan_to_num(cosines, nan=0.0, posinf=0.0, neginf=0.0).min())


def score_change(
    ours: np.ndarray, theirs: np.ndarray, *, activation: str | None
) -> float:
    """Largest change of any class's score."""
    return float(np.abs(_scores(ours, activation) - _scores(theirs, activation)).max())


def top_agreement(ours: np.ndarray, theirs: np.ndarray, *, count: int = 5) -> float:
    """Share of the best classes of each that the other has among its best."""
    count = min(count, ours.shape[1])
    pairs = zip(_best(ours, count), _best(theirs, count), strict=True)
    return float(np.mean([len(set(a) & set(b)) / count for a, b in pairs]))


def _best(logits: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(-logits, axis=1, kind="stable")[:, :count]


def _scores(logits: np.ndarray, activation: str | None) -> np.ndarray:
    logits = logits.astype(np.float64)
    if activation == "softmax":
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)
    return 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
