"""What a predictor gives."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Predictions:
    """What a model says of n images.

    Attributes:
      embeddings: float32 [n, D]; of BiT none is negative.
      class_ids: int32 [n, k], best first; None without a head.
      scores: float32 [n, k] in [0, 1], falling; None without a head.
    """

    embeddings: np.ndarray
    class_ids: np.ndarray | None
    scores: np.ndarray | None
