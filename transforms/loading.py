"""Models by name, from wherever the storage reaches."""

from typing import TYPE_CHECKING

from . import bit, storage
from .bit import ModelInfo, ModelSpec, Progress, Remote

if TYPE_CHECKING:  # it imports TensorFlow
    from .bit import Predictor


def describe_model(spec: ModelSpec, *, progress: Progress | None = None) -> ModelInfo:
    """Says what a model is; as `bit.describe`, but reads `gs://` and `s3://` too.

    Raises:
      ModelError: There is no such model, or it is malformed.
    """
    return bit.describe(spec, remote=_REMOTE, progress=progress)


def load_model(spec: ModelSpec) -> "Predictor":
    """Loads a model; as `bit.load`, but reads `gs://` and `s3://` too.

    Raises:
      ModelError: There is no such model, or a weight is not as it must be.
    """
    return bit.load(spec, remote=_REMOTE)


def _sizes(uri: str) -> dict[str, int]:
    patterns = (uri, f"{uri.rstrip('/')}/**")
    return {
        found.path: found.size_in_bytes
        for pattern in patterns
        for found in storage.match(pattern)
    }


_REMOTE = Remote(sizes=_sizes, open=storage.open_input)
