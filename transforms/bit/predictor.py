"""A model that is loaded and compiled: pixels in, embeddings and predictions out.

Importing it imports TensorFlow.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from .predictions import Predictions
from .runtime import on_gpu, streams, tf
from .spec import ModelInfo, ModelSpec


class Model(Protocol):
    """What a predictor compiles: our own network, or a SavedModel as it is."""

    def outputs(self, images: tf.Tensor) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """Computes float32 features and logits of uint8 [n, height, width, 3]."""


class Predictor:
    """One compiled step over a batch of fixed shape; safe to call from many threads.

    Attributes:
      info: What the model is.
      batch_size: The most images of one call.
      streams: Calls at once that fill the device.
      checks: What was measured of it at load, JSON-able: `saved_model` for how it
        compares with the SavedModel that it comes from, `precision` for how a reduced
        precision compares with float32.
    """

    def __init__(
        self,
        info: ModelInfo,
        *,
        spec: ModelSpec,
        model: Model,
        checks: Mapping[str, Any],
    ) -> None:
        """Compiles a model."""
        self.info = info
        self.batch_size = spec.batch_size
        self.streams = streams()
        self.checks = dict(checks)
        self._spec, self._model = spec, model
        self._top_k = min(spec.top_k, info.classes)
        self._shape = (info.image_size, info.image_size, 3)
        signature = tf.TensorSpec([self.batch_size, *self._shape], tf.uint8)
        # On a GPU XLA fuses what surrounds the convolutions; on a CPU its convolutions
        # are the slower ones.
        step = tf.function(self._predict, jit_compile=on_gpu() and info.rebuilt)
        self._step = step.get_concrete_function(signature)

    def __call__(self, images: np.ndarray) -> Predictions:
        """Embeds and classifies images.

        Args:
          images: uint8 [n, size, size, 3] RGB, n at most the batch size; fewer are
            padded, as only one shape is compiled.

        Raises:
          ValueError: Another type or shape.
        """
        self._check(images)
        count = len(images)
        if not count:
            return self._nothing()
        if count < self.batch_size:
            batch = np.zeros((self.batch_size, *self._shape), np.uint8)
            batch[:count] = images
            images = batch
        embeddings, *head = (out.numpy()[:count] for out in self._step(images))
        return Predictions(embeddings, *(head or (None, None)))

    def resized(self, batch_size: int) -> "Predictor":
        """The same model, not loaded again, compiled for another batch size."""
        spec = replace(self._spec, batch_size=batch_size)
        return Predictor(self.info, spec=spec, model=self._model, checks=self.checks)

    def _nothing(self) -> Predictions:
        embeddings = np.zeros((0, self.info.embedding_size), np.float32)
        if not self.info.classes:
            return Predictions(embeddings, None, None)
        shape = (0, self._top_k)
        return Predictions(
            embeddings, np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        )

    def _check(self, images: np.ndarray) -> None:
        if images.dtype != np.uint8 or images.shape[1:] != self._shape:
            raise ValueError(
                f"images are {images.dtype} {list(images.shape)}, "
                f"not uint8 [n, {', '.join(map(str, self._shape))}]"
            )
        if len(images) > self.batch_size:
            raise ValueError(f"{len(images)} images, at most {self.batch_size} at once")

    def _predict(self, images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        features, logits = self._model.outputs(images)
        if features is None:
            features = tf.zeros([self.batch_size, 0])
        if logits is None:
            return (features,)
        # Chosen by logit: scores near 1 round to ties.
        best, class_ids = tf.math.top_k(logits, self._top_k)
        return features, class_ids, self._scores(best, logits)

    def _scores(self, best: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if self.info.activation == "sigmoid":
            return tf.math.sigmoid(best)
        return tf.exp(best - tf.reduce_logsumexp(logits, axis=1, keepdims=True))
