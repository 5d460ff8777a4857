"""BiT for Beam's own RunInference."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from .bit import ModelSpec
from .loading import load_model

if TYPE_CHECKING:  # it imports TensorFlow
    from .bit import Predictor


@dataclass(frozen=True)
class ImagePrediction:
    """What a model says of one image.

    Attributes:
      embedding: float32 [D].
      class_ids: int32 [k], best first; None without a head.
      scores: float32 [k] in [0, 1], falling; None without a head.
    """

    embedding: np.ndarray
    class_ids: np.ndarray | None
    scores: np.ndarray | None


class BitModelHandler(ModelHandler[np.ndarray, PredictionResult, "Predictor"]):
    """Runs a BiT model in `RunInference`.

    In: uint8 [size, size, 3] RGB, of the model's own size. Out: PredictionResult, its
    `inference` an ImagePrediction. Counted: what RunInference counts, in `BeamML_BiT`.
    Bad records: an image of another shape or type fails its batch, as RunInference
    has it; `.with_exception_handling()` sets such batches aside.

    For whole shards of encoded images PredictImages is faster and has a row for each
    image that fails.
    """

    def __init__(
        self,
        model: str | ModelSpec,
        *,
        load: Callable[[ModelSpec], "Predictor"] = load_model,
    ) -> None:
        """Takes a model's name, or a spec with size, batch size and the rest."""
        self._spec = ModelSpec(model) if isinstance(model, str) else model
        self._load = load
        # Exactly: one shape is compiled, and RunInference would try out others.
        size = self._spec.batch_size
        super().__init__(min_batch_size=size, max_batch_size=size)

    def load_model(self) -> "Predictor":
        """Loads the model; once for all threads of a process."""
        return self._load(self._spec)

    def run_inference(
        self,
        batch: Sequence[np.ndarray],
        model: "Predictor",
        inference_args: dict[str, Any] | None = None,
    ) -> Iterator[PredictionResult]:
        """Predicts one batch, or less.

        Raises:
          ValueError: An image has another shape or type than the model takes.
        """
        found = model(np.stack(batch))
        for row, image in enumerate(batch):
            prediction = ImagePrediction(
                found.embeddings[row],
                None if found.class_ids is None else found.class_ids[row],
                None if found.scores is None else found.scores[row],
            )
            yield PredictionResult(image, prediction, self._spec.name)

    def get_num_bytes(self, batch: Sequence[np.ndarray]) -> int:
        """Size of the pixels, for the metrics."""
        return sum(image.nbytes for image in batch)

    def get_metrics_namespace(self) -> str:
        """Where RunInference counts."""
        return "BeamML_BiT"

    def update_model_path(self, model_path: str | None = None) -> None:
        """Takes another model of the same kind while the pipeline runs."""
        if model_path:
            self._spec = replace(self._spec, name=model_path)
