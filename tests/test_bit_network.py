"""The forward pass against a float64 NumPy one."""

import platform
from collections import Counter

import ml_dtypes
import numpy as np
import pytest

from tests import bit_reference
from transforms.bit.architecture import Architecture
from transforms.bit.kernels import standardize
from transforms.bit.random_weights import RandomWeights


def outputs(name, images):
    """Features and logits, ours and the reference's, from the same tensors."""
    from transforms.bit.network import Network

    weights = RandomWeights.parse(name)
    tensors = dict(weights.tensors())
    expected = bit_reference.forward(
        tensors, images, depth=int(weights.architecture.depth[1:])
    )
    copies = ((key, tensor.copy()) for key, tensor in tensors.items())
    network = Network.load(weights.architecture, tensors=copies)
    features = network.features(images)
    return (features.numpy(), network.logits(features).numpy()), expected


def relative(ours, expected):
    """Largest difference, relative to the largest value of the row."""
    scale = np.abs(expected).max(axis=1, keepdims=True)
    return (np.abs(ours - expected) / scale).max()


def normalized(x):
    """Group norm with gamma 1 and beta 0, then ReLU."""
    from transforms.bit.network import group_norm_relu
    from transforms.bit.runtime import tf

    channels = x.shape[3]
    return group_norm_relu(
        tf.constant(x), gamma=tf.ones(channels), beta=tf.zeros(channels)
    ).numpy()


def noise(*shape, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        ("random:R50x1:21", 64, 64),
        ("random:R50x1:21", 65, 65),
        ("random:R50x1:21", 33, 47),
        ("random:R101x1:21", 40, 33),
        ("random:R14x3:21", 64, 64),
        ("random:R14x3:21", 47, 33),
        ("random:R14x1:21", 128, 96),
    ],
)
def test_features_and_logits_are_the_references(name, height, width):
    ours, expected = outputs(name, noise(2, height, width, 3))
    assert relative(ours[0], expected[0]) < 1e-4
    assert relative(ours[1], expected[1]) < 1e-4


@pytest.mark.parametrize("color", [(1, 1, 1), (-1, -1, -1), (0.9, -0.3, 0.1)])
def test_a_picture_of_one_color_is_no_harder(color):
    # Groups are nearly constant there, and a variance taken as the mean of squares
    # less the square of the mean would be noise.
    images = np.broadcast_to(np.float32(color), (1, 64, 64, 3))
    ours, expected = outputs("random:R50x1:21", images)
    assert relative(ours[0], expected[0]) < 1e-4


def test_a_large_mean_does_not_cancel():
    # In float32 the mean of squares, 1e6, is known to 0.06: no variance of 1 is left.
    x = noise(2, 14, 14, 64) + np.float32(1000)
    expected = np.maximum(bit_reference.group_norm(x.astype(np.float64)), 0)
    np.testing.assert_allclose(normalized(x), expected, atol=1e-3)


def test_the_root_pool_pads_with_zeros():
    from transforms.bit.network import Network

    weights = RandomWeights.parse("random:R14x1")
    network = Network.load(weights.architecture, tensors=weights.tensors())
    images = noise(1, 32, 32, 3)
    root = network._root(images).numpy()
    # Padding with minus infinity gives negative values at the border, too.
    inner, edge = root[:, 1:, 1:], root[:, 0]
    assert inner.min() < 0
    assert edge.min() == 0
    kernel = standardize(
        dict(weights.tensors())["resnet/root_block/standardized_conv2d/kernel"]
    )
    expected = bit_reference.conv(bit_reference.zero_pad(images, 3), kernel, stride=2)
    expected = bit_reference.max_pool(bit_reference.zero_pad(expected, 1))
    np.testing.assert_allclose(root, expected, atol=1e-4)


def test_standardization_has_the_epsilon_of_the_release():
    # Of variance 1e-10 the filter comes out with half its variance; with the 1e-8 of
    # other implementations, with a hundredth.
    kernel = np.float32([1e-5, -1e-5]).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(standardize(kernel).ravel(), [0.5**0.5, -(0.5**0.5)])


def test_standardization_in_pieces_is_that_of_the_whole():
    kernel = np.random.default_rng(2).normal(3, 0.1, (3, 3, 512, 600))
    kernel = kernel.astype(np.float32)
    expected = bit_reference.standardize(kernel.astype(np.float64))
    np.testing.assert_allclose(standardize(kernel), expected, atol=1e-6)


def test_group_norm_has_the_epsilon_of_the_release():
    x = np.zeros((1, 1, 2, 32), np.float32)
    x[0, 0, 0], x[0, 0, 1] = 1e-2, -1e-2
    # The variance is 1e-4, so that 1e-5 beside it takes 4.7 per cent.
    expected = 1e-2 / np.sqrt(1e-4 + 1e-5)
    np.testing.assert_allclose(normalized(x)[0, 0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN is not used there")
def test_the_shortcut_is_added_inside_the_convolution(precision):
    # What TensorFlow fuses hangs on shapes that it sees and on a bias that it leaves.
    from transforms.bit.network import Network

    weights = RandomWeights.parse("random:R14x1")
    network = Network.load(weights.architecture, tensors=weights.tensors())
    if precision != "float32":
        network.reduce(precision)
    fused = Counter(
        tuple(node.attr["fused_ops"].list.s)
        for node in executed(network.outputs, np.zeros((2, 64, 64, 3), np.uint8))
        if node.op.endswith(("Conv2D", "AddV2"))
    )
    # Of 17 convolutions those that end the four units; and no addition is left.
    assert fused == {(): 13, (b"BiasAdd", b"Add"): 4}


def executed(function, images):
    """Nodes of a function's graph as TensorFlow has rewritten it."""
    from tensorflow.python.eager import context

    from transforms.bit.runtime import tf

    compiled = tf.function(function)
    context.enable_run_metadata()
    try:
        compiled(tf.constant(images))
        graphs = context.export_run_metadata().partition_graphs
    finally:
        context.disable_run_metadata()
    return [node for graph in graphs for node in graph.node]


@pytest.mark.parametrize(("height", "width"), [(14, 14), (37, 41), (13, 1), (1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
def test_a_norm_is_right_for_every_number_of_pixels(height, width, dtype):
    # They are summed in runs, and 1,517 = 37 x 41 has none of eight or fewer.
    x = noise(2, height, width, 64).astype(dtype)
    expected = np.maximum(bit_reference.group_norm(x.astype(np.float64)), 0)
    atol = 1e-5 if dtype == np.float32 else 2e-2
    found = normalized(x).astype(np.float64)
    np.testing.assert_allclose(found, expected, atol=atol)


def test_a_model_without_head_has_features_only():
    from transforms.bit.network import Network

    weights = RandomWeights(Architecture.parse("R14x1"))
    network = Network.load(weights.architecture, tensors=weights.tensors())
    features = network.features(noise(3, 32, 32, 3)).numpy()
    assert features.shape == (3, 2048)
    assert features.min() >= 0
