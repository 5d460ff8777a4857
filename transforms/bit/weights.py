"""Where a network's tensors come from, whatever they are stored in."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np

from .architecture import Shape
from .checkpoint import Checkpoint
from .random_weights import RandomWeights
from .saved_model import SavedModelWeights
from .source import CHECKPOINT, RANDOM, Source


class Weights(Protocol):
    """Tensors that can be looked at before they are read."""

    @property
    def digest(self) -> str:
        """Hex; the same for the same weights only."""

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shapes of all tensors by canonical name, with no tensor read."""

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Reads the tensors one by one; each float32 array is the caller's."""


def open_weights(source: Source) -> AbstractContextManager[Weights]:
    """Opens a model's weights; reads headers at most.

    Raises:
      ModelError: They are malformed.
    """
    if source.kind == RANDOM:
        return nullcontext(RandomWeights.parse(source.path))
    if source.kind == CHECKPOINT:
        return Checkpoint(source.path)
    return nullcontext(SavedModelWeights(source.path))
