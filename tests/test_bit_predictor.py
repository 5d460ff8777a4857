"""The compiled predictor: one shape, the right scale, scores and order."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests import bit_reference
from transforms.bit import ModelError, ModelSpec, describe, load
from transforms.bit.random_weights import RandomWeights

SIZE = 48


def spec(name="random:R14x1:30", **options):
    # Not what suits this machine, where answers are held against float64.
    options = {"precision": "float32", **options}
    return ModelSpec(name, image_size=SIZE, batch_size=4, **options)


def pixels(count, seed=0):
    shape = (count, SIZE, SIZE, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def predictor():
    return load(spec())


@pytest.fixture(scope="module")
def reference():
    """float64 features and logits of `pixels(4)`."""
    tensors = dict(RandomWeights.parse("random:R14x1:30").tensors())
    return bit_reference.forward(tensors, pixels(4) / 127.5 - 1, depth=14)


def test_pixels_are_scaled_from_minus_one_to_one(predictor, reference):
    found = predictor(pixels(4))
    assert found.embeddings.dtype == np.float32
    np.testing.assert_allclose(found.embeddings, reference[0], rtol=1e-3, atol=1e-4)


def test_unknown_heads_have_the_best_sigmoids(predictor, reference):
    found = predictor(pixels(4))
    assert found.class_ids.dtype == np.int32
    assert found.scores.dtype == np.float32
    order = np.argsort(-reference[1], axis=1)[:, :10]
    assert np.array_equal(found.class_ids, order)
    best = np.take_along_axis(reference[1], order, axis=1)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-best)), rtol=1e-3)


def test_softmax_is_over_all_classes(reference):
    found = load(spec(activation="softmax", top_k=3))(pixels(4))
    exponentials = np.exp(reference[1])
    expected = np.sort(exponentials / exponentials.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found.scores, expected[:, :-4:-1], rtol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_graph_for_gpus_is_the_same_function(monkeypatch, reference, precision):
    # XLA compiles it for the CPU here: slow, but the same ops.
    from transforms.bit import network, predictor

    monkeypatch.setattr(network, "on_gpu", lambda: True)
    monkeypatch.setattr(predictor, "on_gpu", lambda: True)
    found = load(spec(precision=precision))(pixels(4)).embeddings
    tolerance = 1e-4 if precision == "float32" else 0.1
    scale = reference[0].max(axis=1, keepdims=True)
    assert (np.abs(found - reference[0]) / scale).max() < tolerance


def test_activation_is_by_task():
    assert describe(ModelSpec("random:R14x1:21843")).activation == "sigmoid"
    assert describe(ModelSpec("random:R14x1:1000")).activation == "softmax"
    assert describe(ModelSpec("random:R14x1:10")).activation == "sigmoid"
    assert describe(ModelSpec("random:R14x1")).activation is None
    asked = ModelSpec("random:R14x1:1000", activation="sigmoid")
    assert describe(asked).activation == "sigmoid"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_images_give_the_same_rows(predictor, count):
    full, part = predictor(pixels(4)), predictor(pixels(4)[:count])
    assert part.embeddings.shape == (count, 2048)
    assert np.array_equal(part.embeddings, full.embeddings[:count])
    assert np.array_equal(part.class_ids, full.class_ids[:count])
    assert np.array_equal(part.scores, full.scores[:count])


def test_no_more_predictions_than_classes():
    found = load(spec("random:R14x1:3"))(pixels(1))
    assert found.class_ids.shape == found.scores.shape == (1, 3)


def test_a_model_without_head_predicts_nothing():
    found = load(spec("random:R14x1"))(pixels(2))
    assert found.embeddings.shape == (2, 2048)
    assert found.class_ids is None
    assert found.scores is None


def test_threads_share_it(predictor):
    batches = [pixels(4, seed) for seed in range(12)]
    alone = [predictor(batch).embeddings for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = [found.embeddings for found in pool.map(predictor, batches)]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((5, SIZE, SIZE, 3), np.uint8),
        np.zeros((1, SIZE, SIZE, 3), np.float32),
        np.zeros((1, SIZE, SIZE + 1, 3), np.uint8),
        np.zeros((SIZE, SIZE, 3), np.uint8),
    ],
)
def test_other_images_are_an_error(predictor, images):
    with pytest.raises(ValueError, match="images"):
        predictor(images)


def test_a_checkpoint_is_a_model(tmp_path, predictor):
    path = str(tmp_path / "BiT-M-R14x1.npz")
    np.savez(path, **dict(RandomWeights.parse("random:R14x1:30").tensors()))
    info = describe(spec(path))
    assert (info.architecture, info.classes, info.source) == ("R14x1", 30, "checkpoint")
    assert not info.meaningless
    found = load(spec(path))(pixels(4))
    assert np.array_equal(found.embeddings, predictor(pixels(4)).embeddings)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("BiT-M-R50x1.npz", 224),
        ("BiT-M-R50x1-ILSVRC2012.npz", 384),
        ("BiT-M-R152x4-ILSVRC2012.npz", 480),
        ("R50x1_160.npz", 160),
    ],
)
def test_the_image_size_is_by_name(tmp_path, name, size):
    path = str(tmp_path / name)
    np.savez(path, **dict(RandomWeights.parse("random:R14x1").tensors()))
    assert describe(ModelSpec(path)).image_size == size
    assert describe(ModelSpec(path, image_size=99)).image_size == 99


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 0},
        {"batch_size": 0},
        {"top_k": 0},
        {"precision": "int8"},
        {"activation": "relu"},
    ],
)
def test_options_are_checked_at_once(options):
    with pytest.raises(ModelError, match="give"):
        ModelSpec("random:R14x1", **options)


def test_an_unknown_name_is_an_error():
    with pytest.raises(ModelError, match="model 'resnet50' is unknown"):
        describe(ModelSpec("resnet50"))


def python(code):
    env = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )


def test_tensorflow_is_imported_by_load_only():
    code = (
        "import sys; from transforms.bit import ModelSpec, describe;"
        "describe(ModelSpec('random:R14x1:1000'));"
        "print('tensorflow' in sys.modules)"
    )
    assert python(code).stdout == "False\n"


def test_loading_is_silent_on_stderr():
    code = (
        "from transforms.bit import ModelSpec, load\n"
        "import logging; logging.disable()\n"
        "load(ModelSpec('random:R14x1', image_size=32, batch_size=1))"
    )
    assert python(code).stderr == ""
