"""BiT of `transformers`, with our weights."""

from typing import Any

import numpy as np

from transforms.bit.architecture import UNITS
from transforms.bit.random_weights import RandomWeights


def peer_name(name: str) -> str:
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


def peer(weights: RandomWeights) -> Any:
    """Builds it with every weight of ours and no other: float32, for inference."""
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
    return model
