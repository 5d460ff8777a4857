"""BiT (Big Transfer) models: names, weights, class names, and compiled predictors.

TensorFlow is imported by `load`, not before.
"""

from typing import TYPE_CHECKING

from .cache import Progress, Remote
from .collection import Published, models_table
from .labels import ClassNames, load_class_names
from .model import describe, load
from .predictions import Predictions
from .spec import ModelError, ModelInfo, ModelSpec

if TYPE_CHECKING:
    from .predictor import Predictor

__all__ = [
    "ClassNames",
    "ModelError",
    "ModelInfo",
    "ModelSpec",
    "Predictions",
    "Predictor",
    "Progress",
    "Published",
    "Remote",
    "describe",
    "load",
    "load_class_names",
    "models_table",
]


def __getattr__(name: str) -> object:
    # It lives beside TensorFlow, which takes seconds to import.
    if name == "Predictor":
        from .predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
