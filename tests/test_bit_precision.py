"""Reduced precision: chosen by device, near float32, and given up where it is not."""

import json

import ml_dtypes
import numpy as np
import pytest

from transforms.bit import ModelError, ModelSpec, load, probe
from transforms.bit.random_weights import RandomWeights


def spec(name="random:R14x1:50", **options):
    return ModelSpec(name, **{"image_size": 64, "batch_size": 4, **options})


def pixels():
    return probe.probe_images(64)


@pytest.fixture(scope="module")
def exact():
    return load(spec(precision="float32"))(pixels())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_reduced_model_is_near_float32(precision, exact):
    predictor = load(spec(precision=precision))
    found = predictor(pixels())
    assert found.embeddings.dtype == found.scores.dtype == np.float32
    check = json.loads(json.dumps(predictor.checks))["precision"]
    assert (check["asked"], check["used"]) == (precision, precision)
    # And not float32 by another name.
    assert 0.995 < check["cosine"] < 1 - 1e-8
    assert check["cosine"] == pytest.approx(
        probe.least_cosine(found.embeddings, exact.embeddings), abs=1e-4
    )
    assert 0 < check["score_change"] < 0.1
    assert check["top5_agreement"] > 0.7


def test_sums_and_the_head_are_float32():
    # 3,000 values of 1.0039 each: bfloat16 sums stop growing at 256.
    from transforms.bit.network import _spatial_mean
    from transforms.bit.runtime import tf

    values = np.full((1, 55, 55, 32), 1.0078125, ml_dtypes.bfloat16)
    values[:, ::2] = 1
    mean = _spatial_mean(tf.constant(values))
    assert mean.dtype == tf.float32
    expected = values.astype(np.float64).mean()
    np.testing.assert_allclose(mean, np.full((1, 1, 1, 32), expected), rtol=1e-6)


def test_a_long_sum_loses_no_bits():
    # Of 12,544 pixels: added up one after the other, 1e-4 of it is rounding.
    from transforms.bit.network import _spatial_mean
    from transforms.bit.runtime import tf

    values = np.full((1, 112, 112, 32), 0.1, np.float32)
    mean = _spatial_mean(tf.constant(values))
    np.testing.assert_allclose(mean, np.full((1, 1, 1, 32), 0.1), rtol=2e-6)


def test_float16_does_not_overflow():
    from transforms.bit.network import group_norm_relu
    from transforms.bit.runtime import tf

    x = np.random.default_rng(0).normal(0, 2000, (1, 8, 8, 32)).astype(np.float16)
    found = group_norm_relu(tf.constant(x), gamma=tf.ones(32), beta=tf.zeros(32))
    x = x.astype(np.float64)
    expected = np.maximum(x - x.mean((1, 2)), 0) / np.sqrt(x.var((1, 2)) + 1e-5)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)


def test_one_under_the_limit_falls_back_and_says_so(caplog, exact):
    predictor = load(spec(precision="bfloat16", min_cosine=1.0))
    check = predictor.checks["precision"]
    assert (check["asked"], check["used"]) == ("bfloat16", "float32")
    assert check["cosine"] < 1
    assert "is too far from float32, which is used" in caplog.text
    assert np.array_equal(predictor(pixels()).embeddings, exact.embeddings)


def test_one_that_is_not_finite_falls_back(tmp_path):
    # A head of features beyond float16's 65,504 is fine: it is float32. A gamma that
    # makes activations overflow is not.
    tensors = dict(RandomWeights.parse("random:R14x1").tensors())
    tensors["resnet/block4/unit01/c/group_norm/gamma"] *= 1e6
    path = str(tmp_path / "model.npz")
    np.savez(path, **tensors)
    check = load(spec(path, precision="float16")).checks["precision"]
    assert check["used"] == "float32"
    assert check["cosine"] == 0


def test_auto_is_float32_without_matrix_units(tmp_path):
    from transforms.bit.precision import cpu_precision, gpu_precision

    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: fpu avx512_bf16 avx512f\n")
    assert cpu_precision(cpuinfo) == "float32"
    cpuinfo.write_text("flags\t\t: fpu amx_bf16 amx_tile amx_int8\n")
    assert cpu_precision(cpuinfo) == "bfloat16"
    assert cpu_precision(tmp_path / "none") == "float32"
    assert gpu_precision((6, 1)) == "float32"
    assert gpu_precision((7, 0)) == gpu_precision((7, 5)) == "float16"
    assert gpu_precision((8, 0)) == gpu_precision((9, 0)) == "bfloat16"


def test_the_limit_is_checked_at_once():
    with pytest.raises(ModelError, match=r"least cosine is 1\.5"):
        spec(min_cosine=1.5)


def test_probes_are_always_the_same_and_of_all_kinds():
    images = probe.probe_images(64)
    assert images.shape == (4, 64, 64, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images, probe.probe_images(64))
    assert images.min() < 10
    assert images.max() > 245
    assert probe.probe_side(480) == 224
    assert probe.probe_side(160) == 160


def test_figures_of_the_probes():
    exact = np.float32([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]])
    other = np.float32([[0, 1, 2, 3, 4, 5], [0, 4, 3, 2, 1, 5]])
    assert probe.least_cosine(exact, exact) == pytest.approx(1)
    assert probe.least_cosine(other, exact) == pytest.approx(30 / 55)
    assert probe.least_cosine(other * np.nan, exact) == 0
    assert probe.top_agreement(other, exact) == pytest.approx((1 + 0.8) / 2)
    assert probe.relative_difference(other, exact) == pytest.approx(1)
    change = probe.score_change(other, exact, activation="sigmoid")
    assert change == pytest.approx(1 / (1 + np.exp(-5)) - 0.5)
    exponentials = np.exp([5, 4, 3, 2, 1, 0])
    share = exponentials / exponentials.sum()
    change = probe.score_change(other, exact, activation="softmax")
    assert change == pytest.approx(share[0] - share[5])
