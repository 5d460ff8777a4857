"""The forward pass against that of transformers, over the same weights.

Needs the extra `peers`; run with `pytest -m peers`.
"""

import numpy as np
import pytest

from benchmarks.peers.bit import peer
from transforms.bit import ModelSpec, load
from transforms.bit.random_weights import RandomWeights

pytestmark = pytest.mark.peers


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
    # Two float32 networks of a hundred layers are 1e-4 apart by rounding alone.
    model = peer(RandomWeights.parse(name)).double()
    with torch.no_grad():
        features = model.bit(images).pooler_output.flatten(1).numpy()
        scores = torch.sigmoid(model(images).logits).numpy()
    scale = np.abs(features).max(axis=1, keepdims=True)
    assert (np.abs(found.embeddings - features) / scale).max() < 1e-4
    ordered = np.take_along_axis(scores, found.class_ids, axis=1)
    np.testing.assert_allclose(found.scores, ordered, atol=1e-4)
