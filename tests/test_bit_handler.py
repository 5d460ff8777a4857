"""The model in Beam's own RunInference."""

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.testing.util import assert_that

from transforms.bit import ModelSpec
from transforms.handler import BitModelHandler, ImagePrediction, load_model

SPEC = ModelSpec("random:R14x1:20", image_size=32, batch_size=4, top_k=3)


def images(count, side=32):
    shape = (count, side, side, 3)
    return list(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def run(build):
    """Runs a pipeline once, in this process."""
    pipeline = beam.Pipeline("BundleBasedDirectRunner")
    build(pipeline)
    result = pipeline.run()
    result.wait_until_finish()
    return result


def test_run_inference_gives_what_the_model_gives():
    pixels = images(6)
    predictor = load_model(SPEC)
    expected = [predictor(np.stack(part)) for part in (pixels[:4], pixels[4:])]
    embeddings = np.concatenate([one.embeddings for one in expected])
    class_ids = np.concatenate([one.class_ids for one in expected])

    def check(found):
        assert [index for index, _ in sorted(found)] == list(range(6))
        for index, result in found:
            assert isinstance(result.inference, ImagePrediction)
            assert result.model_id == "random:R14x1:20"
            assert np.array_equal(result.example, pixels[index])
            assert np.allclose(result.inference.embedding, embeddings[index], 1e-5)
            assert np.array_equal(result.inference.class_ids, class_ids[index])
            assert result.inference.scores.shape == (3,)

    def build(pipeline):
        handler = KeyedModelHandler(BitModelHandler(SPEC))
        found = pipeline | beam.Create(enumerate(pixels)) | RunInference(handler)
        assert_that(found, check)

    result = run(build)
    counted = result.metrics().query(
        beam.metrics.MetricsFilter().with_namespace("BeamML_BiT")
    )
    counters = {one.key.metric.name: one.committed for one in counted["counters"]}
    assert counters["num_inferences"] == 6


def test_a_name_is_enough():
    handler = BitModelHandler("random:R14x1")
    assert handler.batch_elements_kwargs() == {
        "min_batch_size": 16,
        "max_batch_size": 16,
    }
    predictor = BitModelHandler(ModelSpec("random:R14x1", image_size=32)).load_model()
    assert predictor.info.image_size == 32


def test_a_model_without_head_has_embeddings_only():
    handler = BitModelHandler(ModelSpec("random:R14x1", image_size=32, batch_size=2))
    [found] = handler.run_inference(images(1), handler.load_model())
    assert found.inference.embedding.shape == (2048,)
    assert found.inference.class_ids is None


def test_images_of_another_size_are_set_aside():
    def check_failed(failed):
        assert len(failed) == 1

    def check_good(good):
        assert len(good) == 4

    def build(pipeline):
        found, failed = (
            pipeline
            | beam.Create([*images(4), images(1, side=33)[0]], reshuffle=False)
            | RunInference(BitModelHandler(SPEC)).with_exception_handling()
        )
        assert_that(found, check_good, label="good")
        assert_that(failed.failed_inferences, check_failed, label="failed")

    run(build)


def test_the_model_is_loaded_by_what_is_given():
    asked = []
    handler = BitModelHandler(SPEC, load=lambda spec: asked.append(spec))
    handler.load_model()
    handler.update_model_path("random:R14x1:20:9")
    handler.load_model()
    assert [spec.name for spec in asked] == ["random:R14x1:20", "random:R14x1:20:9"]
    assert asked[1].top_k == 3
