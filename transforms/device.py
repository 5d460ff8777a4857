"""The models of a process, and the one queue that feeds them."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from . import bit
from .ahead import Pending
from .bit import ModelError, ModelSpec, Predictions
from .block import Block
from .decode import pixels_column
from .guard import GuardedPredictor, Outcome, concatenate

if TYPE_CHECKING:  # it imports TensorFlow
    from .bit import Predictor

    Loader = Callable[[ModelSpec], Predictor]


class Models(NamedTuple):
    """What predicts.

    Attributes:
      embed: Gives the embedding, and the predictions where `label` is None.
      label: Gives the predictions.
    """

    embed: ModelSpec
    label: ModelSpec | None = None


class Result(NamedTuple):
    """What the device made of a block.

    Attributes:
      block: As it came.
      good: int64 [n], the indices of its rows that were predicted, ascending.
      embeddings: float32 [n, D].
      predictions: Of the model that labels.
      faults: What a model said of a row that it fails on, by index.
      microseconds: The time of all streams for it.
      extra_calls: Calls of the models beyond one for each batch.
    """

    block: Block
    good: np.ndarray
    embeddings: np.ndarray
    predictions: Predictions
    faults: dict[int, str]
    microseconds: int
    extra_calls: int


class Device:
    """The models of this process and the one queue that feeds them.

    All threads of a process add to the queue. As many threads empty it, a batch at a
    time, as the device has streams, so that the next batch always waits. A block is
    shared out among the streams.
    """

    def __init__(self, models: Models, load: "Loader") -> None:
        self._embed = GuardedPredictor(load(models.embed))
        if not self._embed.info.embedding_size:
            # It was rebuilt to give one, and then did not agree with itself.
            raise ModelError(
                f"model {models.embed.name} gives no embedding as it is, only logits"
            )
        self._label = GuardedPredictor(load(models.label)) if models.label else None
        self._batch = max(model.batch_size for model in self._models)
        self.streams = self._embed.streams
        self._queue = ThreadPoolExecutor(self.streams, thread_name_prefix="device")
        self.class_names = bit.load_class_names((self._label or self._embed).info)

    @property
    def _models(self) -> list[GuardedPredictor]:
        return [self._embed, *([self._label] if self._label else [])]

    @property
    def rows_ahead(self) -> int:
        """Rows to be in flight for no stream ever to wait for its next batch."""
        return 2 * self.streams * self._batch

    @property
    def checks(self) -> dict[str, Any]:
        """What was measured at load, by model."""
        return {model.info.name: model.checks for model in self._models}

    def submit(self, block: Block) -> Pending[Result]:
        """Adds a block to the queue."""
        good = _good_rows(block.rows)
        batches = [
            self._queue.submit(self._predict, block, good[start : start + self._batch])
            for start in range(0, len(good) or 1, self._batch)
        ]
        return _Batches(block, batches)

    def _predict(self, block: Block, good: np.ndarray) -> Result:
        start = time.perf_counter_ns()
        embedded = _run(self._embed, block.rows, good)
        labelled = _run(self._label, block.rows, good) if self._label else embedded
        embeddings, predictions = embedded.predictions.embeddings, labelled.predictions
        faults = {**embedded.faults, **labelled.faults}
        predicted = good
        if faults:  # else nothing is copied
            both = np.intersect1d(embedded.rows, labelled.rows)
            predicted = good[both]
            embeddings = embeddings[np.isin(embedded.rows, both)]
            predictions = _select(predictions, np.isin(labelled.rows, both))
        calls = embedded.extra_calls
        if labelled is not embedded:
            calls += labelled.extra_calls
        return Result(
            block=block,
            good=predicted,
            embeddings=embeddings,
            predictions=predictions,
            faults={int(good[row]): text for row, text in faults.items()},
            microseconds=(time.perf_counter_ns() - start) // 1000,
            extra_calls=calls,
        )


def _good_rows(rows: pa.RecordBatch) -> np.ndarray:
    """Their indices, ascending."""
    error = rows["error"]
    if error.null_count == len(error):
        return np.arange(len(error))
    return np.flatnonzero(error.is_null().to_numpy(zero_copy_only=False))


class _Batches:
    """A block in flight as the batches that it was cut into."""

    def __init__(self, block: Block, batches: list[Future[Result]]) -> None:
        self._block, self._batches = block, batches

    def done(self) -> bool:
        return all(batch.done() for batch in self._batches)

    def cancel(self) -> None:
        for batch in self._batches:
            batch.cancel()

    def result(self) -> Result:
        parts = [batch.result() for batch in self._batches]
        return Result(
            block=self._block,
            good=np.concatenate([part.good for part in parts]),
            embeddings=np.concatenate([part.embeddings for part in parts]),
            predictions=concatenate([part.predictions for part in parts]),
            faults={row: text for part in parts for row, text in part.faults.items()},
            microseconds=sum(part.microseconds for part in parts),
            extra_calls=sum(part.extra_calls for part in parts),
        )


def _run(model: GuardedPredictor, rows: pa.RecordBatch, good: np.ndarray) -> Outcome:
    images = pixels(rows, size=model.info.image_size)
    if len(good) and good[-1] - good[0] == len(good) - 1:
        # None is bad: a view will do.
        return model(images[good[0] : good[-1] + 1])
    return model(images[good])


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
