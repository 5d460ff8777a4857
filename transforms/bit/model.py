"""From a model's name to what it is, and to a predictor."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from .architecture import Architecture
from .cache import Progress, Remote
from .labels import load_class_names, resolve_labels
from .saved_model import SavedModelWeights
from .source import RANDOM, SAVED_MODEL, Source, find_source
from .spec import ModelInfo, ModelSpec
from .tuning import tune
from .weights import Weights, open_weights

if TYPE_CHECKING:
    from .predictor import Predictor

_PRETRAINING_SIDE = 224


def describe(
    spec: ModelSpec, *, remote: Remote | None = None, progress: Progress | None = None
) -> ModelInfo:
    """Says what a model is, from headers only: no weight is read.

    A model that lies elsewhere is copied to this machine first. TensorFlow is imported
    only for a SavedModel whose variables are not BiT's, which has to be run to be
    known, and to download a module of TensorFlow Hub.

    Args:
      spec: What is asked.
      remote: Reads `gs://` and `s3://`.
      progress: Told of the copying.

    Raises:
      ModelError: There is no such model, or it is malformed.
    """
    return _describe(spec, find_source(spec.name, remote=remote, progress=progress))


def load(
    spec: ModelSpec, *, remote: Remote | None = None, progress: Progress | None = None
) -> "Predictor":
    """Loads, checks and compiles a model; seconds to minutes.

    Args and errors are those of `describe`; also, a weight is not as it must be.
    """
    source = find_source(spec.name, remote=remote, progress=progress)
    info = _describe(spec, source)
    # Before TensorFlow runs anything: its threads stay as they are then.
    tuning = tune(spec, info)
    from .build import build
    from .runtime import set_threads

    set_threads(tuning.threads)
    return build(replace(spec, batch_size=tuning.batch_size), info=info, source=source)


def _describe(spec: ModelSpec, source: Source) -> ModelInfo:
    with open_weights(source) as weights:
        if isinstance(weights, SavedModelWeights) and weights.architecture is None:
            info = _describe_opaque(spec, weights)
        else:
            info = _describe_network(spec, source, weights=weights)
    # Now, and not after the work: a file of names may not fit.
    load_class_names(info)
    return info


def _describe_network(
    spec: ModelSpec, source: Source, *, weights: Weights
) -> ModelInfo:
    architecture = Architecture.from_shapes(weights.shapes)
    side = source.image_size or _PRETRAINING_SIDE
    return ModelInfo(
        name=spec.name,
        source=source.kind,
        architecture=architecture.name,
        embedding_size=architecture.embedding_size,
        classes=architecture.classes,
        activation=_activation(spec, classes=architecture.classes),
        image_size=spec.image_size or side,
        labels=_labels(spec, classes=architecture.classes),
        parameters=architecture.parameters,
        digest=weights.digest,
        meaningless=source.kind == RANDOM,
        rebuilt=True,
    )


def _describe_opaque(spec: ModelSpec, weights: SavedModelWeights) -> ModelInfo:
    from .build import check_size
    from .opaque import Opaque

    model = Opaque(weights.path)
    check_size(spec, fixed=model.image_size)
    return ModelInfo(
        name=spec.name,
        source=SAVED_MODEL,
        architecture="SavedModel",
        embedding_size=model.embedding_size,
        classes=model.classes,
        activation=_activation(spec, classes=model.classes),
        image_size=spec.image_size or model.image_size or _PRETRAINING_SIDE,
        labels=_labels(spec, classes=model.classes),
        parameters=sum(math.prod(shape) for shape in weights.shapes.values()),
        digest=weights.digest,
        meaningless=False,
        rebuilt=False,
    )


def _activation(spec: ModelSpec, *, classes: int) -> str | None:
    if not classes:
        return None
    # The 21,843 classes were trained as so many yes-or-no questions, and a head of
    # unknown make may have been.
    return spec.activation or ("softmax" if classes == 1_000 else "sigmoid")


def _labels(spec: ModelSpec, *, classes: int) -> str | None:
    return resolve_labels(spec.labels, classes=classes) if classes else None
