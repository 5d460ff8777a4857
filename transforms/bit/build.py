"""From weights to a predictor: rebuilt, checked, and in the precision asked for.

Importing it imports TensorFlow.
"""

import gc
import logging
from dataclasses import dataclass, replace
from typing import Any

from . import probe
from .architecture import Architecture
from .network import Network
from .opaque import Opaque
from .precision import resolve_precision
from .predictor import Model, Predictor
from .probe import Outputs
from .runtime import tf
from .source import SAVED_MODEL, Source
from .spec import ModelError, ModelInfo, ModelSpec
from .weights import open_weights

_log = logging.getLogger(__name__)

TOLERANCE = 1e-3
"""Of our graph against the SavedModel that its weights are of, relative to the largest
value of an image's output. Two right float32 graphs are 1e-5 apart, a wrong epsilon or
padding 1e-2."""


@dataclass
class _Build:
    """A model in the making.

    Attributes:
      spec: What was asked.
      info: What was found.
      source: Where it is.
      checks: What is recorded of it, JSON-able.
    """

    spec: ModelSpec
    info: ModelInfo
    source: Source
    checks: dict[str, Any]


def build(spec: ModelSpec, *, info: ModelInfo, source: Source) -> Predictor:
    """Loads, checks and compiles a model.

    Raises:
      ModelError: A weight is not as it must be, or the model cannot run as asked.
    """
    made = _Build(spec, info, source, checks={})
    model: Model
    if not info.rebuilt:
        model = _as_it_is(made, why="its variables are not BiT's")
    elif source.kind == SAVED_MODEL:
        model = _rebuilt(made)
    else:
        model = _network(made)
    if isinstance(model, Network) and not _reduce(made, model):
        # Before the next comes: two would not fit where one does.
        del model
        gc.collect()
        model = _network(made, refill=True)
    if info.meaningless:
        _log.warning("%s: random weights, its output is meaningless", info.name)
    return Predictor(made.info, spec=spec, model=model, checks=made.checks)


def _network(made: _Build, *, refill: bool = False) -> Network:
    with open_weights(made.source) as weights:
        architecture = Architecture.from_shapes(weights.shapes)
        return Network.load(architecture, tensors=weights.tensors(), refill=refill)


def _rebuilt(made: _Build) -> Model:
    """Our own graph over a SavedModel's variables, if it does the same."""
    # The original goes before the weights come, so that only one is in memory.
    expected, side = _original_outputs(made, low=0.0)
    network = _network(made, refill=True)
    found = run(network, side)
    difference = _difference(found, expected)
    low = 0.0
    if not difference <= TOLERANCE:
        # Modules made for TensorFlow 1 take [-1, 1].
        expected, side = _original_outputs(made, low=-1.0)
        other = _difference(found, expected)
        if other <= TOLERANCE:
            difference, low = other, -1.0
    made.checks["saved_model"] = {
        "difference": difference,
        "tolerance": TOLERANCE,
        "input_range": [low, 1.0],
    }
    if not difference <= TOLERANCE:
        del network
        gc.collect()
        return _as_it_is(
            made, why=f"rebuilt it differs by {difference:.1e}, over {TOLERANCE:.0e}"
        )
    made.checks["saved_model"]["runs"] = "rebuilt"
    _log.info("%s: rebuilt, within %.1e of the SavedModel", made.info.name, difference)
    return network


def _original_outputs(made: _Build, *, low: float) -> tuple[Outputs, int]:
    original = _opaque(made, low=low)
    side = original.image_size or probe.SMALL_SIDE
    found = original.run(probe.probe_images(side))
    del original
    # Its object graph has cycles, and it holds all weights.
    gc.collect()
    return found, side


def _opaque(made: _Build, *, low: float = 0.0) -> Opaque:
    like = None
    if made.info.rebuilt:
        with open_weights(made.source) as weights:
            like = Architecture.from_shapes(weights.shapes)
    return Opaque(made.source.path, like=like, low=low)


def _difference(ours: Outputs, theirs: Outputs) -> float:
    """Of the outputs that both have; infinite where they have none in common."""
    pairs = ((ours.features, theirs.features), (ours.logits, theirs.logits))
    differences = [
        probe.relative_difference(one, other)
        for one, other in pairs
        if one is not None and other is not None and one.shape == other.shape
    ]
    return max(differences, default=float("inf"))


def _as_it_is(made: _Build, *, why: str) -> Opaque:
    model = _opaque(made)
    check_size(made.spec, fixed=model.image_size)
    side = model.image_size or made.info.image_size
    if made.info.rebuilt:
        made.info = replace(
            made.info,
            embedding_size=model.embedding_size,
            classes=model.classes,
            image_size=side,
            rebuilt=False,
        )
    made.checks.setdefault("saved_model", {}).update(runs="as it is", why=why)
    _log.warning("%s: runs as it is, in float32: %s", made.info.name, why)
    return model


def check_size(spec: ModelSpec, *, fixed: int | None) -> None:
    """Raises a ModelError if a size is asked for and the model has another."""
    if fixed and spec.image_size and spec.image_size != fixed:
        raise ModelError(
            f"model {spec.name} takes images of {fixed} px only, not of "
            f"{spec.image_size} px: leave --image_size out"
        )


def _reduce(made: _Build, network: Network) -> bool:
    """Rounds a network as asked; False: its answers are too far from float32's."""
    spec, info = made.spec, made.info
    wanted = resolve_precision(spec.precision)
    check: dict[str, Any] = {"asked": spec.precision, "used": wanted}
    made.checks["precision"] = check
    if wanted == "float32":
        return True
    side = probe.probe_side(info.image_size)
    exact = run(network, side)
    network.reduce(wanted)
    found = run(network, side)
    check |= _figures(found, exact, activation=info.activation)
    check["least_cosine"] = spec.min_cosine
    if check["cosine"] >= spec.min_cosine:
        _log.info("%s: %s against float32: %s", info.name, wanted, _listed(check))
        return True
    check["used"] = "float32"
    _log.warning(
        "%s: %s is too far from float32, which is used: %s",
        *(info.name, wanted, _listed(check)),
    )
    return False


def _figures(
    found: Outputs, exact: Outputs, *, activation: str | None
) -> dict[str, float]:
    assert found.features is not None
    assert exact.features is not None
    figures = {"cosine": probe.least_cosine(found.features, exact.features)}
    if found.logits is not None and exact.logits is not None:
        figures["score_change"] = probe.score_change(
            found.logits, exact.logits, activation=activation
        )
        figures["top5_agreement"] = probe.top_agreement(found.logits, exact.logits)
    return figures


def _listed(check: dict[str, Any]) -> str:
    named = ("cosine", "score_change", "top5_agreement", "least_cosine")
    return ", ".join(f"{name} {check[name]:.5f}" for name in named if name in check)


def run(network: Network, side: int) -> Outputs:
    """Runs a network on the probe images."""
    images = tf.constant(probe.probe_images(side))
    features, logits = tf.function(network.outputs)(images)
    # The function's graph is a cycle that holds the weights.
    gc.collect()
    return Outputs(features.numpy(), None if logits is None else logits.numpy())
