"""The forward pass of BiT in plain TensorFlow ops.

Same function as google-research/big_transfer, bit_tf2/models.py and bit_jax/models.py,
with kernels that are standardized already. Importing it imports TensorFlow.
"""

from collections.abc import Iterable

import numpy as np

from .architecture import (
    GROUPS,
    HEAD_BIAS,
    HEAD_KERNEL,
    ROOT_KERNEL,
    Architecture,
    Unit,
)
from .kernels import is_standardized, standardize
from .memory import aligned
from .runtime import on_gpu, tf

EPSILON = 1e-5
"""Added to the variance of every group, inside the square root."""

_LONGEST_RUN = 8


class Network:
    """One BiT network over given tensors.

    Attributes:
      architecture: What is built.
      precision: `float32`, `bfloat16` or `float16`: of kernels and activations.
        Statistics, sums and the head are float32 in all.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        tensors: dict[str, tf.Variable],
        precision: str = "float32",
    ) -> None:
        """Takes tensors by canonical name, kernels standardized and so precise."""
        self.architecture = architecture
        self.precision = precision
        self._tensors = tensors
        self._zeros: dict[tuple[int, tf.DType], tf.Variable] = {}

    @classmethod
    def load(
        cls,
        architecture: Architecture,
        *,
        tensors: Iterable[tuple[str, np.ndarray]],
        refill: bool = False,
    ) -> "Network":
        """Standardizes raw kernels, and moves each tensor on before the next is read.

        They become variables: constants of a graph would be held again by its
        optimizer, and a graph may not exceed 2 GiB.

        Args:
          architecture: What the tensors are.
          tensors: By canonical name, float32; taken over and overwritten.
          refill: TensorFlow has just freed another model: the tensors are copied to
            its memory, which it has kept, and not left in their own beside it.
        """
        variables = {}
        for name, tensor in tensors:
            if is_standardized(name):
                standardize(tensor)
            value = _shared(tensor)
            if refill:
                value = tf.raw_ops.DeepCopy(x=value)
            variables[name] = tf.Variable(value, trainable=False)
            # Before the next one is read.
            del tensor, value
        return cls(architecture, tensors=variables)

    def reduce(self, precision: str) -> None:
        """Rounds the kernels, one by one, so that they are never held twice."""
        self.precision = precision
        for name, tensor in self._tensors.items():
            if is_standardized(name):
                rounded = tf.cast(tensor, precision)
                self._tensors[name] = tf.Variable(rounded, trainable=False)

    def outputs(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Computes features and logits.

        Args:
          images: uint8 [n, height, width, 3] RGB; height and width static.

        Returns:
          float32 [n, D], and float32 [n, classes] or None.
        """
        # The one place that scales: the network of the checkpoints takes [-1, 1].
        features = self.features(_scaled(images, self.precision))
        return features, self.logits(features) if self.architecture.classes else None

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Computes the pooled features.

        Args:
          images: [n, height, width, 3] in [-1, 1]; height and width static.

        Returns:
          float32 [n, D], none negative: a mean of ReLUs.
        """
        x = self._root(tf.cast(images, self.precision))
        for unit in self.architecture.units():
            x = self._unit(x, unit)
        x = self._norm_relu(x, "resnet")
        return tf.reshape(_spatial_mean(x), [-1, self.architecture.embedding_size])

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """Applies the head: float32 [n, D] to float32 [n, classes]."""
        kernel = self._tensors[HEAD_KERNEL]
        kernel = tf.reshape(kernel, [-1, self.architecture.classes])
        return tf.matmul(features, kernel) + self._tensors[HEAD_BIAS]

    def _root(self, x: tf.Tensor) -> tf.Tensor:
        x = _conv(_pad(x, 3), self._tensors[ROOT_KERNEL], stride=2)
        # Zeros, not the pool's own padding, which is minus infinity: nothing has
        # been rectified yet, so a border of negative values must come out as 0.
        return tf.nn.max_pool2d(_pad(x, 1), ksize=3, strides=2, padding="VALID")

    def _unit(self, x: tf.Tensor, unit: Unit) -> tf.Tensor:
        h = self._norm_relu(x, f"{unit.path}/a")
        shortcut = x
        if unit.projects:
            # Of the pre-activated h, not of x.
            shortcut = self._conv(h, f"{unit.path}/a/proj", stride=unit.stride)
        h = self._conv(h, f"{unit.path}/a")
        h = self._norm_relu(h, f"{unit.path}/b")
        h = self._conv(_pad(h, 1), f"{unit.path}/b", stride=unit.stride)
        h = self._norm_relu(h, f"{unit.path}/c")
        return self._sum(self._conv(h, f"{unit.path}/c"), shortcut)

    def _sum(self, convolved: tf.Tensor, shortcut: tf.Tensor) -> tf.Tensor:
        if not on_gpu():
            # A convolution, a bias and a sum become one operation of oneDNN's, which
            # adds to the shortcut where it lies; without a bias they do not.
            convolved = tf.nn.bias_add(convolved, self._no_bias(convolved))
        return convolved + shortcut

    def _no_bias(self, convolved: tf.Tensor) -> tf.Variable:
        # A variable: the optimizer takes out the addition of a constant 0.
        key = convolved.shape[3], convolved.dtype
        if key not in self._zeros:
            with tf.init_scope():
                zeros = tf.zeros(key[0], key[1])
                self._zeros[key] = tf.Variable(zeros, trainable=False)
        return self._zeros[key]

    def _conv(self, x: tf.Tensor, path: str, *, stride: int = 1) -> tf.Tensor:
        kernel = self._tensors[f"{path}/standardized_conv2d/kernel"]
        return _conv(x, kernel, stride=stride)

    def _norm_relu(self, x: tf.Tensor, path: str) -> tf.Tensor:
        gamma = self._tensors[f"{path}/group_norm/gamma"]
        beta = self._tensors[f"{path}/group_norm/beta"]
        return group_norm_relu(x, gamma=gamma, beta=beta)


def _shared(tensor: np.ndarray) -> tf.Tensor:
    # By address: TensorFlow would copy it twice, and the largest tensor of a network
    # is a sixth of it.
    return tf.experimental.dlpack.from_dlpack(aligned(tensor).__dlpack__())


def group_norm_relu(x: tf.Tensor, *, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    """Normalizes groups of channels over space, then rectifies.

    Two passes, as the mean of squares less the square of the mean would cancel where
    a group is nearly constant, as it is in pictures of one color.

    Args:
      x: [n, height, width, channels], height and width static.
      gamma: float32 [channels].
      beta: float32 [channels].

    Returns:
      Of the shape and type of x.
    """
    mean = _by_group(_spatial_mean(x))
    deviation = _squared_deviation(x, mean, run=_run_length(x))
    scale = _scale(_spatial_mean(deviation), gamma)
    # TensorFlow's optimizer does not see the shape of what XLA compiles, and would not
    # fuse what follows.
    return tf.ensure_shape(_affine_relu(x, mean, scale, beta), x.shape)


# XLA's code is one pass over memory, in float32 within, where TensorFlow's takes one
# for each operation. Its convolutions and its sums over space are slow on a CPU, so
# that it does not get them there. Each of these functions is compiled by itself: in
# one, small tensors would be computed again for every element of a large one.
@tf.function(jit_compile=True)
def _by_group(mean: tf.Tensor) -> tf.Tensor:
    """Averages [n, 1, 1, channels] over each group; of the same shape."""
    channels = mean.shape[3]
    groups = tf.reshape(mean, [-1, 1, 1, GROUPS, channels // GROUPS])
    groups = tf.reduce_mean(groups, axis=4, keepdims=True)
    return tf.reshape(tf.repeat(groups, channels // GROUPS, axis=4), tf.shape(mean))


@tf.function(jit_compile=True)
def _squared_deviation(x: tf.Tensor, mean: tf.Tensor, *, run: int) -> tf.Tensor:
    """Squared distances from the mean, each averaged over a run of pixels.

    So the variance is read off a tensor that is a fraction of x. In float32, as squares
    overflow float16, which ends at 65,504.

    Returns:
      float32 [n, 1, height * width / run, channels].
    """
    height, width, channels = x.shape[1:]
    runs = tf.reshape(x, [-1, 1, height * width // run, run, channels])
    pixels = (tf.cast(runs[:, :, :, at], tf.float32) for at in range(run))
    return sum(tf.math.squared_difference(pixel, mean) for pixel in pixels) / run


@tf.function(jit_compile=True)
def _scale(deviation: tf.Tensor, gamma: tf.Tensor) -> tf.Tensor:
    return gamma * tf.math.rsqrt(_by_group(deviation) + EPSILON)


@tf.function(jit_compile=True)
def _affine_relu(
    x: tf.Tensor, mean: tf.Tensor, scale: tf.Tensor, beta: tf.Tensor
) -> tf.Tensor:
    # Not as scale and shift of x: a large mean would cancel.
    y = (tf.cast(x, tf.float32) - mean) * scale + beta
    return tf.cast(tf.nn.relu(y), x.dtype)


@tf.function(jit_compile=True)
def _scaled(images: tf.Tensor, dtype: str) -> tf.Tensor:
    return tf.cast(tf.cast(images, tf.float32) / 127.5 - 1, dtype)


def _run_length(x: tf.Tensor) -> int:
    """Pixels of a run: as many as XLA still makes good code for."""
    if on_gpu():
        # The sum over space is XLA's, too.
        return 1
    pixels = x.shape[1] * x.shape[2]
    return max(run for run in range(1, _LONGEST_RUN + 1) if pixels % run == 0)


def _spatial_mean(x: tf.Tensor) -> tf.Tensor:
    """Averages over space: [n, height, width, channels] to float32 [n, 1, 1, channels].

    As a pool on a CPU, where oneDNN's is many times faster than TensorFlow's reduction
    over middle axes. By row, and the rows after that: it adds up one pixel after the
    other, so that long sums lose bits, and rounds its results to the type of x.
    """
    if on_gpu():
        return tf.reduce_mean(tf.cast(x, tf.float32), axis=[1, 2], keepdims=True)
    rows = tf.nn.avg_pool2d(x, ksize=[1, x.shape[2]], strides=1, padding="VALID")
    return tf.reduce_mean(tf.cast(rows, tf.float32), axis=1, keepdims=True)


def _pad(x: tf.Tensor, size: int) -> tf.Tensor:
    return tf.pad(x, [[0, 0], [size, size], [size, size], [0, 0]])


def _conv(x: tf.Tensor, kernel: tf.Tensor, *, stride: int) -> tf.Tensor:
    # Never SAME: for even sizes it pads (2, 3) where the release pads (3, 3).
    return tf.nn.conv2d(x, kernel, strides=stride, padding="VALID")
