"""The model is loaded once, fed in order, and loses no row to another's fault."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

from tests.pipelines import counters, run_on
from transforms.bit import ModelInfo, ModelSpec, Predictions
from transforms.block import Block, Place
from transforms.device import Device, Models
from transforms.guard import DeviceError, GuardedPredictor
from transforms.predict import Outputs, PredictImages

_SIZE = 2
_INFO = ModelInfo(
    name="fake",
    source="random",
    architecture="R14x1",
    embedding_size=3,
    classes=4,
    activation="sigmoid",
    image_size=_SIZE,
    labels=None,
    parameters=1,
    digest="0",
    meaningless=True,
    rebuilt=True,
)
_OUTPUTS = Outputs()
_POISON, _HUGE, _NAN = 66, 77, 88
_loads: list[str] = []
_calls: list[int] = []
_fits = {"images": 100}
_broken = {"device": False}


class _Exhausted(Exception):
    """Stands for TensorFlow's, which is known by its name."""


_Exhausted.__name__ = "ResourceExhaustedError"


class _FakePredictor:
    """Embeds an image as thrice its first pixel; fails on some pixels."""

    info = _INFO
    checks: ClassVar = {"precision": {"used": "float32"}}
    streams = 1

    def __init__(self, batch_size: int = 4) -> None:
        self.batch_size = batch_size

    def resized(self, batch_size: int) -> "_FakePredictor":
        return _FakePredictor(batch_size)

    def __call__(self, images: np.ndarray) -> Predictions:
        assert len(images) <= self.batch_size
        _calls.append(len(images))
        if _broken["device"]:
            raise RuntimeError("CUDA_ERROR_LAUNCH_FAILED")
        if self.batch_size > _fits["images"]:
            raise _Exhausted("OOM when allocating tensor")
        first = images[:, 0, 0, 0].astype(np.float32)
        if (first == _POISON).any():
            raise ValueError("a poisoned\nrow")
        embeddings = np.repeat(first[:, None], 3, axis=1)
        embeddings[first == _NAN] = np.nan
        embeddings[first == _HUGE] = 1e6
        scores = np.tile(np.float32([0.9, 0.4]), (len(images), 1))
        ids = np.tile(np.int32([2, 1]), (len(images), 1))
        return Predictions(embeddings, ids, scores)


def _load(spec: ModelSpec) -> _FakePredictor:
    _loads.append(spec.name)
    return _FakePredictor()


@pytest.fixture(autouse=True)
def _healthy() -> None:
    _loads.clear()
    _calls.clear()
    _fits["images"] = 100
    _broken["device"] = False


def _block(pixels: list[int | None], *, row: int = 0) -> Block:
    """Decoded rows; None is one that did not decode."""
    width = _SIZE * _SIZE * 3
    bad = [None if value is not None else "corrupt_image" for value in pixels]
    rows = {
        "key": pa.array([str(value) for value in pixels]),
        "pixels_2": pa.array(
            [None if value is None else bytes([value]) * width for value in pixels],
            pa.binary(width),
        ),
        "stage": pa.array([error and "decode" for error in bad], pa.string()),
        "error": pa.array(bad, pa.string()),
        "message": pa.array(bad, pa.string()),
    }
    place = Place("a", "a-1", 0, row, False, False)
    return Block(place, pa.RecordBatch.from_pydict(rows))


def _predict(*blocks: Block, outputs: Outputs = _OUTPUTS) -> list[Block]:
    step = PredictImages(Models(ModelSpec("m")), outputs=outputs, load=_load)
    made, _ = run_on(step, blocks)
    return made


def _first(block: Block) -> list[float | None]:
    """The first number of each row's embedding; None in a bad row."""
    return [
        vector[0] if error is None else None
        for vector, error in zip(
            block.rows["embedding"].to_pylist(),
            block.rows["error"].to_pylist(),
            strict=True,
        )
    ]


def test_rows_get_their_own_embedding_around_bad_ones() -> None:
    [block] = _predict(_block([7, None, 9]))
    assert _first(block) == [7.0, None, 9.0]
    assert block.rows["error"].to_pylist() == [None, "corrupt_image", None]
    assert block.rows["key"].to_pylist() == ["7", "None", "9"]
    assert "pixels_2" not in block.rows.schema.names


def test_blocks_leave_in_order() -> None:
    made = _predict(*(_block([number], row=number) for number in range(20)))
    assert [block.place.row for block in made] == list(range(20))
    assert [_first(block) for block in made] == [[float(n)] for n in range(20)]


def test_a_block_without_rows_passes() -> None:
    [block] = _predict(_block([]))
    assert block.rows.num_rows == 0
    assert "embedding" in block.rows.schema.names


def test_scores_below_the_least_are_left_out() -> None:
    [block] = _predict(_block([7, None]), outputs=Outputs(min_score=0.5))
    assert block.rows["predictions"].to_pylist() == [
        [{"class_id": 2, "wnid": None, "label": None, "score": np.float32(0.9)}],
        [],
    ]


def test_an_embedding_that_is_not_finite_is_an_error() -> None:
    [block] = _predict(_block([7, _NAN, 9]))
    assert _first(block) == [7.0, None, 9.0]
    assert block.rows["stage"].to_pylist() == [None, "predict", None]
    assert block.rows["error"].to_pylist() == [None, "non_finite", None]


def test_an_embedding_that_overflows_float16_is_an_error() -> None:
    [block] = _predict(_block([7, _HUGE]), outputs=Outputs("float16"))
    assert block.rows["embedding"].type == pa.list_(pa.float16(), 3)
    assert block.rows["error"].to_pylist() == [None, "non_finite"]


def test_a_poisoned_row_costs_itself_only() -> None:
    step = PredictImages(Models(ModelSpec("m")), outputs=Outputs(), load=_load)
    [block], result = run_on(step, [_block([7, 8, _POISON, 9])])
    assert _first(block) == [7.0, 8.0, None, 9.0]
    assert block.rows["error"].to_pylist() == [None, None, "model_failed", None]
    assert block.rows["message"][2].as_py() == "ValueError: a poisoned row"
    # All four; 7 and 8; the poison and 9; each of the two alone.
    assert _calls == [4, 2, 2, 1, 1]
    found = counters(result)
    assert found["extra_model_calls"] == 4
    assert (found["images_predicted"], found["bad_model_failed"]) == (3, 1)


def test_out_of_memory_halves_the_batch_for_good() -> None:
    _fits["images"] = 1
    made = _predict(_block([1, 2, 3, 4]), _block([5, 6, 7], row=4))
    assert [_first(block) for block in made] == [[1, 2, 3, 4], [5, 6, 7]]
    # Four, two, then one by one; the second block begins with one.
    assert _calls == [4, 2, 1, 1, 1, 1, 1, 1, 1]


def test_a_model_that_does_not_fit_fails_the_job_in_one_line() -> None:
    _fits["images"] = 0
    with pytest.raises(DeviceError, match="memory does not hold fake and one image"):
        _predict(_block([1, 2, 3]))


def test_a_device_that_is_gone_fails_the_job_in_one_line() -> None:
    _broken["device"] = True
    with pytest.raises(DeviceError, match=r"runs fake no more.+LAUNCH_FAILED"):
        _predict(_block([1, 2, 3]))


def test_a_block_of_poisoned_rows_only_is_no_broken_device() -> None:
    [block] = _predict(_block([_POISON, _POISON]))
    assert block.rows["error"].to_pylist() == ["model_failed", "model_failed"]


def test_more_images_than_a_batch_are_cut() -> None:
    outcome = GuardedPredictor(_FakePredictor(4))(  # type: ignore[arg-type]
        np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    )
    assert outcome.predictions.embeddings[:, 0].tolist() == list(range(10))
    assert outcome.extra_calls == 0
    assert _calls == [4, 4, 2]


def test_streams_that_run_out_of_memory_together_halve_the_batch_once() -> None:
    both = threading.Barrier(2)
    resized: list[int] = []

    class _Small(_FakePredictor):
        def resized(self, batch_size: int) -> _FakePredictor:
            resized.append(batch_size)
            return _FakePredictor(batch_size)

        def __call__(self, images: np.ndarray) -> Predictions:
            both.wait(timeout=10)
            raise _Exhausted("OOM when allocating tensor")

    guarded = GuardedPredictor(_Small(4))  # type: ignore[arg-type]
    images = np.zeros((4, _SIZE, _SIZE, 3), np.uint8)
    with ThreadPoolExecutor(2) as streams:
        outcomes = list(streams.map(guarded, [images, images]))
    assert [len(outcome.rows) for outcome in outcomes] == [4, 4]
    assert resized == [2]
    assert guarded.batch_size == 2


def test_a_block_is_shared_out_among_the_streams_and_leaves_in_order() -> None:
    both = threading.Barrier(2)

    class _Streams(_FakePredictor):
        streams = 2

        def __call__(self, images: np.ndarray) -> Predictions:
            if len(images) == self.batch_size:
                both.wait(timeout=10)  # for the other stream
            return super().__call__(images)

    device = Device(Models(ModelSpec("m")), lambda _: _Streams())  # type: ignore[arg-type, return-value]
    pixels = [None, 1, 2, 3, 4, None, 5, 6, 7, 8, _POISON]
    result = device.submit(_block(pixels)).result()
    assert result.good.tolist() == [1, 2, 3, 4, 6, 7, 8, 9]
    assert (result.embeddings[:, 0] == np.arange(1, 9)).all()
    assert result.faults == {10: "ValueError: a poisoned row"}
    assert not both.broken
    # Two batches for each stream: one that it works on and one that waits.
    assert device.rows_ahead == 16


def test_a_second_model_labels_what_the_first_embeds() -> None:
    class _Labels(_FakePredictor):
        def __call__(self, images: np.ndarray) -> Predictions:
            return replace(
                super().__call__(images), class_ids=np.int32([[3, 0]] * len(images))
            )

    def load(spec: ModelSpec) -> _FakePredictor:
        _loads.append(spec.name)
        return _Labels() if spec.name == "label" else _FakePredictor()

    models = Models(ModelSpec("embed"), ModelSpec("label"))
    device = Device(models, load)  # type: ignore[arg-type]
    result = device.submit(_block([7, _POISON, 9])).result()
    assert result.good.tolist() == [0, 2]
    assert result.embeddings[:, 0].tolist() == [7, 9]
    assert result.predictions.class_ids is not None
    assert result.predictions.class_ids.tolist() == [[3, 0], [3, 0]]
    assert _loads == ["embed", "label"]


def test_a_process_loads_the_model_once_for_all_its_threads() -> None:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner import fn_runner

    options = PipelineOptions(
        direct_num_workers=3, direct_running_mode="multi_threading"
    )
    pipeline = beam.Pipeline(runner=fn_runner.FnApiRunner(), options=options)
    step = PredictImages(Models(ModelSpec("m")), outputs=Outputs(), load=_load)
    blocks = [_block([number]) for number in range(30)]
    _ = pipeline | beam.Create(blocks) | beam.Reshuffle() | step
    result = pipeline.run()
    assert counters(result)["images_predicted"] == 30
    assert _loads == ["m"]


def test_what_was_measured_at_load_comes_out_beside_the_blocks() -> None:
    step = PredictImages(Models(ModelSpec("m")), outputs=Outputs(), load=_load)

    class _ChecksOnly(beam.PTransform):
        def expand(self, blocks: beam.pvalue.PCollection) -> beam.pvalue.PCollection:
            _, checks = blocks | step.with_checks()
            return checks

    checks, _ = run_on(_ChecksOnly(), [_block([7])])
    assert checks == ['{"fake": {"precision": {"used": "float32"}}}']
