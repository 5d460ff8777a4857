"""The forward pass against that of transformers, over the same weights.

Needs the extra `peers`; run with `pytest -m peers`.
"""

import numpy as np
import pytest

from transforms.bit import ModelSpec, load
from transforms.bit.architecture import UNITS
from transforms.bit.random_weights import RandomWeights

pytestmark = pytest.mark.peers


def peer_name(name):
    """What transformers calls a tensor of a checkpoint."""
    name = name.removeprefix("resnet/")
    for ours, theirs in (
        ("root_block/standardized_conv2d/kernel", "bit.embedder.convolution.weight"),
        ("head/conv2d/kernel", "classifier.1.weight"),
        ("head/conv2d/bias", "classifier.1.bias"),
        ("group_norm/gamma", "bit.norm.weight"),
        ("group_norm/beta", "bit.norm.bias"),
    ):
        if name == ours:
            return theirs
    block, unit, letter, *rest = name.split("/")
    layer = f"bit.encoder.stages.{int(block[5:]) - 1}.layers.{int(unit[4:]) - 1}"
    if rest[0] == "proj":
        return f"{layer}.downsample.conv.weight"
    part = "norm" if rest[0] == "group_norm" else "conv"
    kind = "bias" if rest[1] == "beta" else "weight"
    return f"{layer}.{part}{'abc'.index(letter) + 1}.{kind}"


def peer(weights):
    """transformers' model, with every weight of ours and no other, in float64.

    Two float32 networks of a hundred layers are 1e-4 apart by rounding alone.
    """
    import torch
    import transformers

    architecture = weights.architecture
    width = architecture.width
    config = transformers.BitConfig(
        depths=list(UNITS[architecture.depth]),
        embedding_size=64 * width,
        hidden_sizes=[256 * width, 512 * width, 1024 * width, 2048 * width],
        num_labels=architecture.classes,
    )
    model = transformers.BitForImageClassification(config).eval()
    state = {}
    for name, tensor in weights.tensors():
        if tensor.ndim == 4:
            tensor = tensor.transpose(3, 2, 0, 1)
        if name == "resnet/head/conv2d/kernel":
            tensor = tensor[:, :, 0, 0]
        state[peer_name(name)] = torch.from_numpy(np.ascontiguousarray(tensor))
    model.load_state_dict(state, strict=True)
    for module in model.modules():
        if type(module).__name__ == "WeightStandardizedConv2d":
            # It has 1e-8; the release has this.
            module.eps = 1e-10
    return model.double()


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("random:R50x1:21", 224),
        ("random:R50x1:21", 97),
        ("random:R101x1:21", 64),
        ("random:R50x3:21", 64),
    ],
)
def test_features_and_logits_are_the_peers(name, side):
    import torch

    pixels = np.random.default_rng(3).integers(0, 256, (2, side, side, 3), np.uint8)
    spec = ModelSpec(name, image_size=side, batch_size=2, precision="float32", top_k=21)
    found = load(spec)(pixels)
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2) / 127.5 - 1)
    model = peer(RandomWeights.parse(name))
    with torch.no_grad():
        features = model.bit(images).pooler_output.flatten(1).numpy()
        scores = torch.sigmoid(model(images).logits).numpy()
    scale = np.abs(features).max(axis=1, keepdims=True)
    assert (np.abs(found.embeddings - features) / scale).max() < 1e-4
    ordered = np.take_along_axis(scores, found.class_ids, axis=1)
    np.testing.assert_allclose(found.scores, ordered, atol=1e-4)
