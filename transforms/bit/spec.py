"""What is asked of a model, and what it turns out to be."""

from dataclasses import dataclass

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
ACTIVATIONS = ("sigmoid", "softmax")
TUNES = ("no", "rule", "measure")


class ModelError(ValueError):
    """A model that cannot be had as asked; one line: what, the value, the remedy."""


@dataclass(frozen=True)
class ModelSpec:
    """A model as the user asks for it.

    Attributes:
      name: The `--model` option: a module of the collection, by handle or URL; an
        official checkpoint, by name or by the path of its `.npz`; a SavedModel folder
        or archive; `random:R50x1[:classes[:seed]]`.
      image_size: Side of the square images in pixels; None: the model's own.
      batch_size: Images of one step; the only batch that is compiled.
      tune: One of TUNES. `no`: the batch size is as given; `rule`: what is good on most
        machines, up to the given; `measure`: what is best on this one, up to the given,
        measured once and kept in the cache.
      precision: One of PRECISIONS.
      activation: One of ACTIVATIONS; None: softmax for the 1,000 classes of
        ILSVRC-2012, else sigmoid.
      top_k: Predictions an image keeps, if the model has a head.
      labels: `imagenet21k`, `ilsvrc2012` or the path of a text file with a class a
        line; None: by the number of classes.
      min_cosine: Least cosine of embeddings in a reduced precision with those in
        float32, on the worst of the probe images, for the precision to be used. Random
        weights, which amplify rounding, have 0.984 (R152x4) to 0.996 (R50x1) in
        bfloat16.

    Raises:
      ModelError: A value is out of its range.
    """

    name: str
    image_size: int | None = None
    batch_size: int = 16
    tune: str = "no"
    precision: str = "auto"
    activation: str | None = None
    top_k: int = 10
    labels: str | None = None
    min_cosine: float = 0.98

    def __post_init__(self) -> None:
        if self.image_size is not None:
            _check_positive("image size", self.image_size)
        _check_positive("batch size", self.batch_size)
        _check_positive("number of predictions", self.top_k)
        _check_choice("tune", self.tune, choices=TUNES)
        _check_choice("precision", self.precision, choices=PRECISIONS)
        if not -1 <= self.min_cosine <= 1:
            raise ModelError(f"least cosine is {self.min_cosine}: give -1 to 1")
        if self.activation is not None:
            _check_choice("activation", self.activation, choices=ACTIVATIONS)


@dataclass(frozen=True)
class ModelInfo:
    """A model as it is found, before any of its weights is read.

    Attributes:
      name: As asked for.
      source: `random`, `checkpoint` or `saved_model`.
      architecture: `R50x1` and so on; `SavedModel` where it is none of BiT's.
      embedding_size: Length of an embedding; 0: a SavedModel that runs as it is and
        gives logits only, so that it is of use for predictions alone.
      classes: Of the head; 0: it has none.
      activation: One of ACTIVATIONS; None without a head.
      image_size: Side of the square images in pixels.
      labels: Whose class names, as in ModelSpec; None: they are unknown.
      parameters: How many numbers the weights are.
      digest: Hex; the same for the same weights only.
      meaningless: The weights are random: good for dry runs, not for results.
      rebuilt: It runs as our own graph; False: a SavedModel that runs as it is.
    """

    name: str
    source: str
    architecture: str
    embedding_size: int
    classes: int
    activation: str | None
    image_size: int
    labels: str | None
    parameters: int
    digest: str
    meaningless: bool
    rebuilt: bool


def _check_positive(what: str, value: int) -> None:
    if value < 1:
        raise ModelError(f"{what} is {value}: give 1 or more")


def _check_choice(what: str, value: str, *, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ModelError(f"{what} is {value!r}: give one of {', '.join(choices)}")
