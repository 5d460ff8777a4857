"""BiT's forward pass in NumPy and float64, written from its definition.

Sources: "Big Transfer (BiT): General Visual Representation Learning"
(arXiv:1912.11370), "Weight Standardization" (arXiv:1903.10520), "Group Normalization"
(arXiv:1803.08494), "Identity Mappings in Deep Residual Networks" (arXiv:1603.05027).
Nothing of the package is used here: not its names of tensors, tables or formulas.
"""

from collections.abc import Mapping

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

DEPTHS = {14: (1, 1, 1, 1), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def forward(
    tensors: Mapping[str, np.ndarray], images: np.ndarray, *, depth: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Computes features and logits.

    Args:
      tensors: Of a checkpoint, raw.
      images: [n, height, width, 3] in [-1, 1].
      depth: A key of DEPTHS.

    Returns:
      float64 [n, D], and [n, classes] or None.
    """
    net = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    root = net["resnet/root_block/standardized_conv2d/kernel"]
    x = conv(zero_pad(images.astype(np.float64), 3), standardize(root), stride=2)
    x = max_pool(zero_pad(x, 1))
    for block, count in enumerate(DEPTHS[depth], start=1):
        for index in range(1, count + 1):
            path = f"resnet/block{block}/unit{index:02d}"
            stride = 2 if block > 1 and index == 1 else 1
            x = unit(net, path, x, stride=stride)
    features = norm_relu(net, "resnet", x).mean(axis=(1, 2))
    if "resnet/head/conv2d/kernel" not in net:
        return features, None
    head = net["resnet/head/conv2d/kernel"][0, 0]
    return features, features @ head + net["resnet/head/conv2d/bias"]


def unit(
    net: Mapping[str, np.ndarray], path: str, x: np.ndarray, *, stride: int
) -> np.ndarray:
    def kernel(name: str) -> np.ndarray:
        return standardize(net[f"{path}/{name}/standardized_conv2d/kernel"])

    h = norm_relu(net, f"{path}/a", x)
    shortcut = x
    if f"{path}/a/proj/standardized_conv2d/kernel" in net:
        shortcut = conv(h, kernel("a/proj"), stride=stride)
    h = conv(h, kernel("a"))
    h = norm_relu(net, f"{path}/b", h)
    h = conv(zero_pad(h, 1), kernel("b"), stride=stride)
    h = norm_relu(net, f"{path}/c", h)
    return conv(h, kernel("c")) + shortcut


def norm_relu(net: Mapping[str, np.ndarray], path: str, x: np.ndarray) -> np.ndarray:
    gamma = net[f"{path}/group_norm/gamma"]
    beta = net[f"{path}/group_norm/beta"]
    return np.maximum(group_norm(x) * gamma + beta, 0)


def group_norm(x: np.ndarray) -> np.ndarray:
    n, height, width, channels = x.shape
    groups = x.reshape(n, height, width, 32, channels // 32)
    mean = groups.mean(axis=(1, 2, 4), keepdims=True)
    variance = groups.var(axis=(1, 2, 4), keepdims=True)
    return ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)


def standardize(kernel: np.ndarray) -> np.ndarray:
    mean = kernel.mean(axis=(0, 1, 2))
    return (kernel - mean) / np.sqrt(kernel.var(axis=(0, 1, 2)) + 1e-10)


def conv(x: np.ndarray, kernel: np.ndarray, *, stride: int = 1) -> np.ndarray:
    window = kernel.shape[:2]
    views = sliding_window_view(x, window, axis=(1, 2))[:, ::stride, ::stride]
    # [n, height, width, channels, kernel height, kernel width] x HWIO
    return np.tensordot(views, kernel, axes=((4, 5, 3), (0, 1, 2)))


def max_pool(x: np.ndarray) -> np.ndarray:
    views = sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]
    return views.max(axis=(4, 5))


def zero_pad(x: np.ndarray, size: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (size, size), (size, size), (0, 0)))
