"""A predictor that loses no row to another row's fault, nor to a lack of memory."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .bit import ModelInfo, Predictions

if TYPE_CHECKING:  # it imports TensorFlow
    from .bit import Predictor


class DeviceError(Exception):
    """The device cannot run the model at all. One line."""


@dataclass(frozen=True)
class Outcome:
    """What became of n images.

    Attributes:
      rows: int64 [m], indices of those that were predicted, ascending.
      predictions: Of those m.
      faults: What the model said of each of the others, by index.
      extra_calls: Calls of the model beyond one for each batch.
    """

    rows: np.ndarray
    predictions: Predictions
    faults: dict[int, str]
    extra_calls: int


class GuardedPredictor:
    """Calls a predictor; finds what to do when it fails.

    Out of memory: the batch is halved, for the rest of the process. Anything else:
    the batch is bisected down to the guilty rows. Where all rows seem guilty, a blank
    image tells whether it is the device. Safe to call from several threads.
    """

    def __init__(self, model: "Predictor") -> None:
        self._model = model
        self._lock = threading.Lock()

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self._model.info

    @property
    def batch_size(self) -> int:
        """Images of a step."""
        return self._model.batch_size

    @property
    def streams(self) -> int:
        """Calls at once that fill the device."""
        return self._model.streams

    @property
    def checks(self) -> dict[str, Any]:
        """What was measured at load."""
        return self._model.checks

    def __call__(self, images: np.ndarray) -> Outcome:
        """Predicts images.

        Args:
          images: uint8 [n, size, size, 3]; more than a batch is cut into batches.

        Raises:
          DeviceError: One image alone does not fit, or not even a blank image passes.
        """
        least = -(-len(images) // self._model.batch_size)
        calls = 0
        done: list[tuple[np.ndarray, Predictions]] = []
        faults: dict[int, str] = {}
        waiting = [np.arange(len(images))]
        while waiting:
            rows = waiting.pop()
            model = self._model
            size = model.batch_size
            if len(rows) > size:
                waiting += [rows[size:], rows[:size]]
                continue
            try:
                calls += 1
                # Mostly all of them, which need no copy.
                some = images if len(rows) == len(images) else images[rows]
                done.append((rows, model(some)))
            except Exception as error:  # the bad-record boundary of the model
                if _is_out_of_memory(error):
                    self._halve(model, error)
                    waiting.append(rows)
                elif len(rows) == 1:
                    faults[int(rows[0])] = _one_line(error)
                else:
                    half = len(rows) // 2
                    waiting += [rows[half:], rows[:half]]
        if faults and len(faults) == len(images):
            calls += 1
            self._check_device(images)
        rows, predictions = self._join(done, images)
        return Outcome(rows, predictions, faults, max(0, calls - least))

    def _halve(self, model: "Predictor", error: Exception) -> None:
        size = model.batch_size
        if size == 1:
            raise DeviceError(
                f"the device's memory does not hold {model.info.name} and one"
                f" image: {_one_line(error)}"
            ) from error
        with self._lock:
            # Another stream may have done it.
            if self._model is model:
                self._model = model.resized(size // 2)

    def _check_device(self, images: np.ndarray) -> None:
        try:
            self._model(np.zeros_like(images[:1]))
        except Exception as error:  # whatever it is, no image will pass
            raise DeviceError(
                f"the device runs {self._model.info.name} no more: {_one_line(error)}"
            ) from error

    def _join(
        self, done: Sequence[tuple[np.ndarray, Predictions]], images: np.ndarray
    ) -> tuple[np.ndarray, Predictions]:
        if not done:
            return np.arange(0), self._model(images[:0])
        if len(done) == 1:
            return done[0]
        rows = np.concatenate([rows for rows, _ in done])
        return rows, concatenate([predictions for _, predictions in done])


def concatenate(predictions: Sequence[Predictions]) -> Predictions:
    """Joins predictions of one model; at least one."""

    def join(name: str) -> np.ndarray:
        return np.concatenate([getattr(some, name) for some in predictions])

    headless = predictions[0].scores is None
    return Predictions(
        join("embeddings"),
        None if headless else join("class_ids"),
        None if headless else join("scores"),
    )


def _is_out_of_memory(error: Exception) -> bool:
    # By name: the steps do not import TensorFlow. XLA says it in the message only.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "ResourceExhaustedError"
        or "RESOURCE_EXHAUSTED" in str(error)
    )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}"
