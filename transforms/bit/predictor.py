"""A model that is loaded and compiled: pixels in, embeddings and predictions out.

Importing it imports TensorFlow.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .architecture import Architecture
from .network import Network
from .runtime import tf
from .spec import ModelInfo, ModelSpec

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """What a model says of n images.

    Attributes:
      embeddings: float32 [n, D], none negative.
      class_ids: int32 [n, k], best first; None without a head.
      scores: float32 [n, k] in [0, 1], falling; None without a head.
    """

    embeddings: np.ndarray
    class_ids: np.ndarray | None
    scores: np.ndarray | None


class Predictor:
    """One compiled step over a batch of fixed shape; safe to call from many threads.

    Attributes:
      info: What the model is.
      batch_size: The most images of one call.
    """

    def __init__(
        self,
        info: ModelInfo,
        *,
        architecture: Architecture,
        spec: ModelSpec,
        tensors: Iterable[tuple[str, np.ndarray]],
    ) -> None:
        """Moves raw tensors to the device one by one, and compiles.

        Raises:
          ModelError: What `tensors` raises.
        """
        self.info = info
        self.batch_size = spec.batch_size
        if info.meaningless:
            _log.warning("%s: random weights, its output is meaningless", info.name)
        self._network = Network.load(architecture, tensors=tensors)
        self._top_k = min(spec.top_k, info.classes)
        side = info.image_size
        self._shape = (side, side, 3)
        signature = tf.TensorSpec([self.batch_size, *self._shape], tf.uint8)
        self._step = tf.function(self._predict).get_concrete_function(signature)

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
        if count < self.batch_size:
            batch = np.zeros((self.batch_size, *self._shape), np.uint8)
            batch[:count] = images
            images = batch
        embeddings, *head = (out.numpy()[:count] for out in self._step(images))
        return Predictions(embeddings, *(head or (None, None)))

    def _check(self, images: np.ndarray) -> None:
        if images.dtype != np.uint8 or images.shape[1:] != self._shape:
            raise ValueError(
                f"images are {images.dtype} {list(images.shape)}, "
                f"not uint8 [n, {', '.join(map(str, self._shape))}]"
            )
        if len(images) > self.batch_size:
            raise ValueError(f"{len(images)} images, at most {self.batch_size} at once")

    def _predict(self, images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # The one place that scales: the network of the checkpoints takes [-1, 1].
        features = self._network.features(tf.cast(images, tf.float32) / 127.5 - 1)
        if not self.info.classes:
            return (features,)
        logits = self._network.logits(features)
        # Chosen by logit: scores near 1 round to ties.
        best, class_ids = tf.math.top_k(logits, self._top_k)
        return features, class_ids, self._scores(best, logits)

    def _scores(self, best: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if self.info.activation == "sigmoid":
            return tf.math.sigmoid(best)
        return tf.exp(best - tf.reduce_logsumexp(logits, axis=1, keepdims=True))
