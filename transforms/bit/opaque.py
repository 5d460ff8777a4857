"""A SavedModel that runs as it is. Importing it imports TensorFlow."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .architecture import Architecture
from .probe import Outputs
from .runtime import tf
from .spec import ModelError

# IndexError is how TensorFlow says that a file of variables is too short.
LOAD_ERRORS = (OSError, ValueError, IndexError, RuntimeError, tf.errors.OpError)
_DEFAULT_SIDE = 224
_SIGNATURES = ("serving_default", "default")
_KNOWN_CLASSES = (1_000, 21_843)
_LOGIT_NAMES = ("logit", "class", "score", "prediction", "head")
_FEATURE_NAMES = ("embed", "feature", "pool", "pre_logits", "vector", "representation")


@dataclass(frozen=True)
class _Entry:
    """One way to call a SavedModel.

    Attributes:
      call: Takes images and returns tensors in any nest.
      spec: Of the images.
    """

    call: Callable[[tf.Tensor], Any]
    spec: tf.TensorSpec


class Opaque:
    """A SavedModel from images in [0, 1] to features, logits, or both.

    Attributes:
      image_size: Side in pixels that it is made for; None: any.
      embedding_size: Length of its features; 0: it gives none.
      classes: Of its logits; 0: it gives none.
    """

    def __init__(
        self, path: str, *, like: Architecture | None = None, low: float = 0.0
    ) -> None:
        """Loads it, and runs it once to see what comes out.

        Args:
          path: Folder of saved_model.pb.
          like: Whose variables it has, if that is known: tells its outputs.
          low: What a black pixel is; a white one is 1.

        Raises:
          ModelError: It cannot be loaded, takes no images, or what it returns cannot
            be told apart.
        """
        self.path = path
        self._like = like
        self._low = low
        try:
            # Kept: its functions hold the variables by weak references only.
            self._loaded = tf.saved_model.load(path)
        except LOAD_ERRORS as error:
            raise self._error(f"cannot be loaded: {_one_line(error)}") from None
        self._entry = self._find_entry()
        self.image_size = self._fixed_side()
        widths = self._widths()
        self._features, self._logits = self._choose(widths)
        self.embedding_size = widths.get(self._features, 0)
        self.classes = widths.get(self._logits, 0)

    def outputs(self, images: tf.Tensor) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """Computes features and logits of uint8 images [n, side, side, 3]."""
        named = _named(self._call(images))
        features = logits = None
        if self.embedding_size:
            features = _rows(named[self._features], self.embedding_size)
        if self.classes:
            logits = _rows(named[self._logits], self.classes)
        return features, logits

    def run(self, images: np.ndarray) -> Outputs:
        """The same at once, for arrays."""
        features, logits = self.outputs(tf.constant(images))
        return Outputs(
            None if features is None else features.numpy(),
            None if logits is None else logits.numpy(),
        )

    def _call(self, images: tf.Tensor) -> Any:
        scaled = self._scaled(images)
        batch = self._entry.spec.shape[0] if self._entry.spec.shape.rank else None
        if batch is None or batch == images.shape[0]:
            return self._entry.call(scaled)
        # Made for another number of images: as many calls as it takes.
        count = images.shape[0]
        scaled = tf.pad(scaled, [[0, -count % batch], [0, 0], [0, 0], [0, 0]])
        parts = [
            self._entry.call(scaled[start : start + batch])
            for start in range(0, count, batch)
        ]
        return tf.nest.map_structure(lambda *all_: tf.concat(all_, 0)[:count], *parts)

    def _scaled(self, images: tf.Tensor) -> tf.Tensor:
        if self._entry.spec.dtype == tf.uint8:
            return images
        scaled = tf.cast(images, tf.float32) / 255 * (1 - self._low) + self._low
        return tf.cast(scaled, self._entry.spec.dtype)

    def _find_entry(self) -> _Entry:
        entries = (*_calls(self._loaded), *_signatures(self._loaded))
        for entry in entries:
            if _takes_images(entry.spec) and self._runs(entry):
                return entry
        raise self._error("has no function of one batch of images")

    def _runs(self, entry: _Entry) -> bool:
        shape = _probe_shape(entry.spec)
        try:
            entry.call(tf.zeros(shape, entry.spec.dtype))
        except (TypeError, ValueError, tf.errors.OpError):
            return False
        return True

    def _fixed_side(self) -> int | None:
        shape = self._entry.spec.shape
        height, width = shape[1:3] if shape.rank else (None, None)
        if height != width:
            raise self._error(f"takes images of {height} x {width} px, not square ones")
        return height

    def _widths(self) -> dict[str, int]:
        """Lengths of the vectors that it returns, by name."""
        shape = [1, *_probe_shape(self._entry.spec)[1:]]
        widths = {}
        for name, tensor in _named(self._call(tf.zeros(shape, tf.uint8))).items():
            # A map of 1 x 1 is a vector, too.
            inner = tensor.shape[1:-1].num_elements()
            if tensor.dtype.is_floating and tensor.shape.rank >= 2 and inner == 1:
                widths[name] = tensor.shape[-1]
        return widths

    def _choose(self, widths: Mapping[str, int]) -> tuple[str, str]:
        """Names of the features and of the logits; empty where there are none."""
        classes = self._like.classes if self._like else 0
        logits = _only(name for name in widths if widths[name] == classes) or _only(
            name for name in widths if _is_logits(name, widths[name])
        )
        rest = [name for name in widths if name != logits]
        size = self._like.embedding_size if self._like else 0
        features = (
            _only(name for name in rest if widths[name] == size)
            or _only(filter(_is_features, rest))
            or _only(rest)
        )
        if not features and not logits:
            names = ", ".join(
                f"{name} [{width}]" for name, width in sorted(widths.items())
            )
            raise self._error(
                f"returns {names or 'no vectors'}: which of them is the embedding "
                "cannot be told"
            )
        return features, logits

    def _error(self, problem: str) -> ModelError:
        return ModelError(f"SavedModel {self.path} {problem}")


def _calls(loaded: Any) -> Iterator[_Entry]:
    """Ways to call the object itself, with and without `training`."""
    if not callable(loaded):
        return
    for function in getattr(loaded.__call__, "concrete_functions", ()):
        args, kwargs = function.structured_input_signature
        inputs = (*args, *kwargs.values())
        specs = [one for one in inputs if isinstance(one, tf.TensorSpec)]
        if len(specs) != 1 or any(one is True for one in inputs):
            continue
        yield _Entry(loaded, specs[0])
        yield _Entry(partial(loaded, training=False), specs[0])
        yield _Entry(partial(loaded, training=None), specs[0])


def _signatures(loaded: Any) -> Iterator[_Entry]:
    signatures = getattr(loaded, "signatures", {})
    names = sorted(signatures, key=lambda name: name not in _SIGNATURES)
    for name in names:
        function = signatures[name]
        _, inputs = function.structured_input_signature
        if len(inputs) == 1:
            [(key, spec)] = inputs.items()
            yield _Entry(partial(_by_keyword, function, key), spec)


def _by_keyword(function: Callable[..., Any], key: str, images: tf.Tensor) -> Any:
    return function(**{key: images})


def _takes_images(spec: tf.TensorSpec) -> bool:
    if not (spec.dtype.is_floating or spec.dtype == tf.uint8):
        return False
    return spec.shape.rank is None or (
        spec.shape.rank == 4 and spec.shape[3] in (None, 3)
    )


def _probe_shape(spec: tf.TensorSpec) -> list[int]:
    if spec.shape.rank is None:
        return [1, _DEFAULT_SIDE, _DEFAULT_SIDE, 3]
    batch, height, width, _ = spec.shape
    return [batch or 1, height or _DEFAULT_SIDE, width or _DEFAULT_SIDE, 3]


def _named(outputs: Any) -> dict[str, tf.Tensor]:
    """Tensors by name; those of a list by number."""
    if isinstance(outputs, Mapping):
        return {
            name: tensor
            for name, tensor in outputs.items()
            if isinstance(tensor, tf.Tensor)
        }
    flat = tf.nest.flatten(outputs)
    return {f"output_{index}": tensor for index, tensor in enumerate(flat)}


def _rows(tensor: tf.Tensor, width: int) -> tf.Tensor:
    return tf.cast(tf.reshape(tensor, [-1, width]), tf.float32)


def _only(names: Iterable[str]) -> str:
    """The one there is; empty: none, or more than one."""
    found = list(names)
    return found[0] if len(found) == 1 else ""


def _is_logits(name: str, width: int) -> bool:
    named = any(part in name.lower() for part in _LOGIT_NAMES)
    return (named or width in _KNOWN_CLASSES) and not _is_features(name)


def _is_features(name: str) -> bool:
    return any(part in name.lower() for part in _FEATURE_NAMES)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
