"""Random weights: the same everywhere, and of a use for dry runs."""

import subprocess
import sys

import numpy as np
import pytest

from transforms.bit import ModelError, ModelSpec, describe, load
from transforms.bit.random_weights import RandomWeights

ROOT = "resnet/root_block/standardized_conv2d/kernel"


def test_the_first_numbers_are_these():
    # Literal: they must outlive NumPy's versions, machines and our own changes.
    tensors = dict(RandomWeights.parse("random:R14x1:10:7").tensors())
    kernel, gamma = tensors[ROOT].ravel(), tensors["resnet/group_norm/gamma"]
    assert kernel[:2].tolist() == [0.038378290832042694, -0.029779061675071716]
    assert gamma[:2].tolist() == [1.0400561094284058, 0.8745810985565186]


def test_another_process_draws_the_same():
    code = (
        "import hashlib; from transforms.bit.random_weights import RandomWeights;"
        "d = hashlib.sha256();"
        "[d.update(t.tobytes()) for _, t in RandomWeights.parse("
        "'random:R14x1:10:7').tensors()]; print(d.hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1] != ""


def test_seed_and_name_change_the_numbers():
    first = dict(RandomWeights.parse("random:R14x1:10:0").tensors())
    other = dict(RandomWeights.parse("random:R14x1:10:1").tensors())
    assert not np.array_equal(first[ROOT], other[ROOT])
    gammas = [first[f"resnet/block1/unit01/{abc}/group_norm/gamma"] for abc in "abc"]
    assert not np.array_equal(gammas[0], gammas[1])


def test_the_digest_is_that_of_what_was_asked():
    names = ["R14x1", "R14x1:10", "R14x1:10:1", "R50x1:10:1"]
    digests = {describe(ModelSpec(f"random:{name}")).digest for name in names}
    assert len(digests) == 4
    assert describe(ModelSpec("random:R14x1:10")).digest in digests
    assert describe(ModelSpec("random:R14x1:10:0")).digest in digests


def test_random_weights_are_said_to_be_meaningless():
    assert describe(ModelSpec("random:R14x1")).meaningless


@pytest.mark.parametrize("name", ["R50x1:a", "R50x1:-1", "R50x1:1:2:3", "R50x1:"])
def test_a_malformed_name_is_an_error(name):
    with pytest.raises(ModelError, match="random:R50x1"):
        describe(ModelSpec(f"random:{name}"))


@pytest.mark.parametrize("name", ["random:R50x1:1000", "random:R14x3:1000"])
def test_outputs_are_finite_and_differ_between_images(name):
    predictor = load(ModelSpec(name, image_size=64, batch_size=4))
    images = np.zeros((4, 64, 64, 3), np.uint8)
    images[1] = 255
    images[2, :32] = 200
    images[3] = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    embeddings = predictor(images).embeddings
    assert np.isfinite(embeddings).all()
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(4, 1)]
    assert cosines.max() < 0.99
