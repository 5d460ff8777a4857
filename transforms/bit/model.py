"""From a model's name to what it is, and to a predictor."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .architecture import Architecture, Shape
from .checkpoint import Checkpoint
from .labels import load_class_names, resolve_labels
from .random_weights import PREFIX, RandomWeights
from .spec import ModelError, ModelInfo, ModelSpec

if TYPE_CHECKING:
    from .predictor import Predictor


class Weights(Protocol):
    """Where a network's tensors come from."""

    @property
    def digest(self) -> str:
        """Hex; the same for the same weights only."""

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shapes of all tensors by canonical name, with no tensor read."""

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Reads the tensors one by one; each array is the caller's."""


def describe(spec: ModelSpec) -> ModelInfo:
    """Says what a model is, from headers only: no weight is read.

    Raises:
      ModelError: There is no such model, or it is malformed.
    """
    with _open(spec.name) as weights:
        return _describe(spec, weights)


def load(spec: ModelSpec) -> "Predictor":
    """Loads and compiles a model; seconds to minutes.

    Raises:
      ModelError: There is no such model, or a weight is not as it must be.
    """
    from .predictor import Predictor

    with _open(spec.name) as weights:
        info = _describe(spec, weights)
        architecture = Architecture.from_shapes(weights.shapes)
        return Predictor(
            info, architecture=architecture, spec=spec, tensors=weights.tensors()
        )


def _open(name: str) -> AbstractContextManager[Weights]:
    if name.startswith(PREFIX):
        return nullcontext(RandomWeights.parse(name))
    if name.endswith(".npz"):
        return Checkpoint(name)
    raise ModelError(
        f"model {name!r} is unknown: give random:R50x1 or the path of an .npz file"
    )


def _describe(spec: ModelSpec, weights: Weights) -> ModelInfo:
    architecture = Architecture.from_shapes(weights.shapes)
    classes = architecture.classes
    meaningless = spec.name.startswith(PREFIX)
    info = ModelInfo(
        name=spec.name,
        source="random" if meaningless else "checkpoint",
        architecture=architecture.name,
        embedding_size=architecture.embedding_size,
        classes=classes,
        activation=_activation(spec, classes=classes),
        image_size=spec.image_size or _image_size(spec.name, architecture),
        labels=resolve_labels(spec.labels, classes=classes) if classes else None,
        parameters=architecture.parameters,
        digest=weights.digest,
        meaningless=meaningless,
    )
    load_class_names(info)
    return info


def _activation(spec: ModelSpec, *, classes: int) -> str | None:
    if not classes:
        return None
    # The 21,843 classes were trained as so many yes-or-no questions, and a head of
    # unknown make may have been.
    return spec.activation or ("softmax" if classes == 1_000 else "sigmoid")


def _image_size(name: str, architecture: Architecture) -> int:
    """The side that the weights were trained or tuned for.

    As in google-research/robustness_metrics, models/bit.py; 224 is the pretraining's.
    """
    if re.search("ilsvrc2012", name.rsplit("/", 1)[-1], re.IGNORECASE):
        return 480 if architecture.width == 4 else 384
    return 224
