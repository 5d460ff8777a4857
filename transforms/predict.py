"""PredictImages: blocks of pixels to blocks of embeddings and predictions."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from . import bit, metrics
from .ahead import InOrder
from .bit import ClassNames, ModelSpec, Predictions
from .block import FAULT_FIELDS, Block, Fault
from .decode import PIXELS, pixels_column
from .guard import GuardedPredictor, Outcome
from .read import count_faults

if TYPE_CHECKING:  # it imports TensorFlow
    from .bit import Predictor

    Loader = Callable[[ModelSpec], Predictor]

_BLOCKS_IN_FLIGHT = 2
"""One that the device works on and one that waits for it."""

PREDICTION = pa.struct(
    [
        pa.field("class_id", pa.int32(), nullable=False),
        pa.field("wnid", pa.string()),
        pa.field("label", pa.string()),
        pa.field("score", pa.float32(), nullable=False),
    ]
)


_NON_FINITE = Fault(
    "predict",
    "non_finite",
    "the embedding has a value that is infinite or not a number",
)


class Models(NamedTuple):
    """What predicts.

    Attributes:
      embed: Gives the embedding, and the predictions where `label` is None.
      label: Gives the predictions.
    """

    embed: ModelSpec
    label: ModelSpec | None = None


class Outputs(NamedTuple):
    """What a row keeps.

    Attributes:
      embedding_type: `float32` or `float16`.
      min_score: Predictions below it are left out.
    """

    embedding_type: str = "float32"
    min_score: float = 0.0


class _Result(NamedTuple):
    """What the device made of a block.

    Attributes:
      block: As it came.
      good: int64 [n], the indices of its rows that were predicted, ascending.
      embeddings: float32 [n, D].
      predictions: Of the model that labels.
      faults: What a model said of a row that it fails on, by index.
      microseconds: The device's time.
      extra_calls: Calls of the models beyond one for each batch.
    """

    block: Block
    good: np.ndarray
    embeddings: np.ndarray
    predictions: Predictions
    faults: dict[int, str]
    microseconds: int
    extra_calls: int


class _Device:
    """The models of this process and the one queue that feeds them.

    All threads of a process add to the queue; a single thread empties it, so that
    the next batch always waits and two are never on the device at once.
    """

    def __init__(self, models: Models, load: "Loader") -> None:
        self._embed = GuardedPredictor(load(models.embed))
        self._label = GuardedPredictor(load(models.label)) if models.label else None
        self._queue = ThreadPoolExecutor(1, thread_name_prefix="device")
        self.class_names = bit.load_class_names((self._label or self._embed).info)

    def submit(self, block: Block) -> Future[_Result]:
        """Adds a block to the queue."""
        return self._queue.submit(self._predict, block)

    def _predict(self, block: Block) -> _Result:
        start = time.perf_counter_ns()
        bad = block.rows["error"].is_valid().to_numpy(zero_copy_only=False)
        good = np.flatnonzero(~bad)
        embedded = _run(self._embed, block.rows, good)
        labelled = _run(self._label, block.rows, good) if self._label else embedded
        both = np.intersect1d(embedded.rows, labelled.rows)
        faults = {**embedded.faults, **labelled.faults}
        calls = embedded.extra_calls
        if labelled is not embedded:
            calls += labelled.extra_calls
        return _Result(
            block=block,
            good=good[both],
            embeddings=embedded.predictions.embeddings[np.isin(embedded.rows, both)],
            predictions=_select(labelled.predictions, np.isin(labelled.rows, both)),
            faults={int(good[row]): text for row, text in faults.items()},
            microseconds=(time.perf_counter_ns() - start) // 1000,
            extra_calls=calls,
        )


def _run(model: GuardedPredictor, rows: pa.RecordBatch, good: np.ndarray) -> Outcome:
    return model(pixels(rows, size=model.info.image_size)[good])


def _select(predictions: Predictions, rows: np.ndarray) -> Predictions:
    if predictions.scores is None or predictions.class_ids is None:
        return replace(predictions, embeddings=predictions.embeddings[rows])
    return replace(
        predictions,
        embeddings=predictions.embeddings[rows],
        class_ids=predictions.class_ids[rows],
        scores=predictions.scores[rows],
    )


def pixels(rows: pa.RecordBatch, *, size: int) -> np.ndarray:
    """The pixels of a block's rows, without a copy.

    Returns:
      uint8 [rows, size, size, 3]; what it holds of a bad row means nothing.
    """
    column = rows[pixels_column(size)]
    width = size * size * 3
    buffer = np.frombuffer(column.buffers()[1], np.uint8)
    start = column.offset * width
    flat = buffer[start : start + len(column) * width]
    return flat.reshape(-1, size, size, 3)


def _predicted(result: _Result, *, outputs: Outputs, class_names: ClassNames) -> Block:
    """A block with embeddings and predictions in place of pixels.

    Rows on which the model fails, or whose embedding is not finite, are bad in it.
    """
    rows, good = result.block.rows, result.good
    # A float16 may overflow: what is stored must be finite.
    with np.errstate(over="ignore"):
        embeddings = result.embeddings.astype(outputs.embedding_type)
    columns = {
        name: column
        for name, column in zip(rows.schema.names, rows.columns, strict=True)
        if not name.startswith(PIXELS)
    }
    made = {"embedding": _scatter_embeddings(embeddings, good, rows.num_rows)}
    if result.predictions.scores is not None:
        made["predictions"] = _scatter_predictions(
            result.predictions,
            good,
            rows.num_rows,
            min_score=outputs.min_score,
            class_names=class_names,
        )
    at = list(columns).index("stage")
    names = [*list(columns)[:at], *made, *list(columns)[at:]]
    faults = {
        row: Fault("predict", "model_failed", text)
        for row, text in result.faults.items()
    }
    for row in good[~np.isfinite(embeddings).all(axis=1)]:
        faults[int(row)] = _NON_FINITE
    columns.update(made)
    columns.update(_with_faults(columns, faults))
    made_rows = pa.RecordBatch.from_arrays([columns[name] for name in names], names)
    return Block(result.block.place, made_rows)


def _scatter_embeddings(
    embeddings: np.ndarray, good: np.ndarray, count: int
) -> pa.FixedSizeListArray:
    width = embeddings.shape[1]
    values = np.zeros((count, width), embeddings.dtype)
    values[good] = embeddings
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width)


def _scatter_predictions(
    predictions: Predictions,
    good: np.ndarray,
    count: int,
    *,
    min_score: float,
    class_names: ClassNames,
) -> pa.ListArray:
    assert predictions.scores is not None and predictions.class_ids is not None
    keep = predictions.scores >= min_score
    lengths = np.zeros(count, np.int32)
    lengths[good] = keep.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ids = pa.array(predictions.class_ids[keep], pa.int32())
    scores = pa.array(predictions.scores[keep], pa.float32())
    wnids, labels = class_names.take(predictions.class_ids[keep])
    structs = pa.StructArray.from_arrays(
        [ids, wnids, labels, scores], fields=list(PREDICTION)
    )
    return pa.ListArray.from_arrays(pa.array(offsets), structs)


def _with_faults(
    columns: dict[str, pa.Array], faults: dict[int, Fault]
) -> dict[str, pa.Array]:
    """The fault columns with these rows marked."""
    marked = {}
    for field in FAULT_FIELDS if faults else ():
        values = columns[field.name].to_pylist()
        for row, fault in faults.items():
            values[row] = getattr(fault, field.name)
        marked[field.name] = pa.array(values, field.type)
    return marked


class PredictImages(beam.PTransform):
    """Runs one or two BiT models on blocks of pixels.

    Args:
      models: What predicts; loaded once in each process.
      outputs: What a row keeps.
      load: Loads a model; another one for tests.
    """

    def __init__(
        self,
        models: Models,
        *,
        outputs: Outputs,
        load: "Loader" = bit.load,
    ) -> None:
        super().__init__()
        self._models, self._outputs, self._load = models, outputs, load

    def expand(
        self, blocks: beam.pvalue.PCollection[Block]
    ) -> beam.pvalue.PCollection[Block]:
        predict = _PredictImages(self._models, self._outputs, self._load)
        return blocks | beam.ParDo(predict)


class _PredictImages(beam.DoFn):
    """Block of pixels in, block of embeddings and predictions out, in order.

    Metrics: images_predicted, blocks_predicted, predict_usec (the device's time for
      a block), extra_model_calls, bad and bad_<error>.
    Bad records: pass. A row whose embedding is not finite becomes `non_finite`; one on
      which the model fails, `model_failed`. Only a device that runs nothing at all
      fails the job, with DeviceError.
    """

    def __init__(
        self,
        models: Models,
        outputs: Outputs,
        load: "Loader",
    ) -> None:
        self._models, self._outputs, self._load = models, outputs, load
        # Made here and not in setup: all copies of this DoFn share by its key.
        self._shared = Shared()

    def setup(self) -> None:
        self._device: _Device = self._shared.acquire(
            lambda: _Device(self._models, self._load)
        )

    def start_bundle(self) -> None:
        self._in_flight: InOrder[_Result] = InOrder(_BLOCKS_IN_FLIGHT)

    def process(self, block: Block) -> Iterator[Block]:
        yield from map(self._finish, self._in_flight.add(self._device.submit(block)))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for result in self._in_flight.drain():
            yield GlobalWindows.windowed_value(self._finish(result))

    def _finish(self, result: _Result) -> Block:
        block = _predicted(
            result, outputs=self._outputs, class_names=self._device.class_names
        )
        metrics.observe_usec("predict_usec", result.microseconds)
        metrics.count("blocks_predicted")
        metrics.count("images_predicted", len(result.good))
        if result.extra_calls:
            metrics.count("extra_model_calls", result.extra_calls)
        count_faults(block.rows, stage="predict")
        return block
