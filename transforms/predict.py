"""PredictImages: blocks of pixels to blocks of embeddings and predictions."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from . import metrics, shift
from .ahead import InOrder
from .bit import ClassNames, Predictions
from .block import FAULT_FIELDS, Block, Fault
from .decode import PIXELS
from .device import Device, Models, Result
from .loading import load_model
from .read import count_faults

if TYPE_CHECKING:  # it imports TensorFlow
    from .device import Loader

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


class Outputs(NamedTuple):
    """What a row keeps.

    Attributes:
      embedding_type: `float32` or `float16`.
      min_score: Predictions below it are left out.
    """

    embedding_type: str = "float32"
    min_score: float = 0.0


def _predicted(result: Result, *, outputs: Outputs, class_names: ClassNames) -> Block:
    """A block with embeddings and predictions in place of pixels.

    Rows on which the model fails, or whose embedding is not finite, are bad in it.
    """
    rows, good = result.block.rows, result.good
    # A float16 may overflow: what is stored must be finite.
    with np.errstate(over="ignore"):
        embeddings = result.embeddings.astype(outputs.embedding_type, copy=False)
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
    values = embeddings
    if len(good) < count:  # else nothing is copied
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
        load: "Loader" = load_model,
    ) -> None:
        super().__init__()
        self._dofn = _PredictImages(models, outputs, load)

    def expand(
        self, blocks: beam.pvalue.PCollection[Block]
    ) -> beam.pvalue.PCollection[Block]:
        return blocks | beam.ParDo(self._dofn)

    def with_checks(self) -> beam.PTransform:
        """Gives a transform with two outputs: the blocks, and the models' checks.

        A check is JSON of what was measured when a process loaded the models: the
        precision that runs, and how near it is to float32 and to the SavedModel.
        """
        return beam.ParDo(self._dofn).with_outputs("checks", main="blocks")


class _PredictImages(beam.DoFn):
    """Block of pixels in, block of embeddings and predictions out, in order.

    At the end of a bundle: tagged `checks`, the models' checks as JSON.
    Metrics: images_predicted, blocks_predicted, predict_usec (of all streams, for a
      block), predict_capacity_usec, extra_model_calls, bad and bad_<error>.
    Bad records: pass. A row whose embedding is not finite becomes `non_finite`; one on
      which the model fails, `model_failed`. Only a device that runs nothing at all
      fails the job, with DeviceError.
    """

    def __init__(self, models: Models, outputs: Outputs, load: "Loader") -> None:
        self._models, self._outputs, self._load = models, outputs, load
        # Made here and not in setup: all copies of this DoFn share by its key.
        self._shared = Shared()
        self._in_flight: InOrder[Result] | None = None

    def display_data(self) -> dict[str, object]:
        embed, label = self._models
        return {
            "model": embed.name,
            "label_model": label.name if label else embed.name,
            "batch_size": embed.batch_size,
            "precision": embed.precision,
        }

    def setup(self) -> None:
        self._device: Device = self._shared.acquire(
            lambda: Device(self._models, self._load)
        )

    def start_bundle(self) -> None:
        self.teardown()  # of a bundle that failed
        self._in_flight = InOrder(self._device.rows_ahead)
        shift.begin("predict", self)

    def process(
        self, block: Block
    ) -> Iterator[Block | TaggedOutput[Literal["checks"], str]]:
        assert self._in_flight is not None
        results = self._in_flight.add(
            self._device.submit(block), weight=block.rows.num_rows
        )
        yield from map(self._finish, results)

    def finish_bundle(
        self,
    ) -> Iterator[WindowedValue | TaggedOutput[Literal["checks"], str]]:
        assert self._in_flight is not None
        for result in self._in_flight.drain():
            yield GlobalWindows.windowed_value(self._finish(result))
        capacity = shift.end("predict", self).usec * self._device.streams
        metrics.observe_usec("predict_capacity_usec", capacity)
        checks = json.dumps(self._device.checks, sort_keys=True)
        yield TaggedOutput("checks", GlobalWindows.windowed_value(checks))

    def teardown(self) -> None:
        shift.drop("predict", self)
        if self._in_flight is not None:
            self._in_flight.cancel()

    def _finish(self, result: Result) -> Block:
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
