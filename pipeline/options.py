"""Options of a run, grouped, and their checks.

Nothing here imports Beam or TensorFlow: a wrong option is told at once.
"""

import argparse
from dataclasses import dataclass, field

from .errors import UsageError

RESIZES = ("antialias", "bilinear")
FITS = ("stretch", "crop", "pad")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
ACTIVATIONS = ("sigmoid", "softmax")
EMBEDDING_TYPES = ("float32", "float16")
FORMATS = ("tar", "tfrecord", "parquet", "files")


@dataclass(frozen=True)
class InputOptions:
    """Where the images come from."""

    patterns: tuple[str, ...]
    form: str | None = None
    image_column: str | None = None
    key_column: str | None = None
    keep_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageOptions:
    """How encoded images become pixels."""

    image_size: int | None = None
    resize: str = "antialias"
    fit: str = "stretch"
    max_pixels: int = 100_000_000
    decode_threads: int | None = None


@dataclass(frozen=True)
class ModelOptions:
    """What predicts, and what is kept of it.

    Attributes:
      batch_size: None: what is best on the workers.
    """

    model: str
    label_model: str | None = None
    labels: str | None = None
    activation: str | None = None
    top_k: int = 10
    min_score: float = 0.0
    precision: str = "auto"
    min_cosine: float = 0.98
    batch_size: int | None = None


@dataclass(frozen=True)
class OutputOptions:
    """Where the table goes."""

    folder: str
    rows_per_part: int = 4096
    embedding_type: str = "float32"
    overwrite: bool = False
    max_error_rate: float = 0.5


@dataclass(frozen=True)
class RunOptions:
    """All options of `bitbeam run`.

    Attributes:
      runner: Name of a Beam runner.
      gpu: Of every worker on Dataflow.
      no_wait: Submit only.
      dry_run: Submit nothing, write nothing.
      beam: Arguments that Beam's own options know.
    """

    inputs: InputOptions
    model: ModelOptions
    output: OutputOptions
    images: ImageOptions = field(default_factory=ImageOptions)
    runner: str = "DirectRunner"
    gpu: str | None = None
    no_wait: bool = False
    dry_run: bool = False
    beam: tuple[str, ...] = ()


@dataclass(frozen=True)
class VerifyOptions:
    """Options of `bitbeam verify`.

    Attributes:
      output: The output's folder.
      inputs: Patterns of the shards to read again; none: the files alone.
      form: Format of all inputs, where their names do not tell.
      unfinished: The run need not have finished.
      beam: Arguments that Beam's own options know.
    """

    output: str
    inputs: tuple[str, ...] = ()
    form: str | None = None
    unfinished: bool = False
    beam: tuple[str, ...] = ()


def batch_size(text: str) -> int | None:
    """Reads a number, or `auto` as None."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number; give one, or auto"
        ) from None


def check(options: RunOptions) -> None:
    """Checks what can be checked without looking at any file.

    Raises:
      UsageError: For the first option that is wrong.
    """
    model, images, output = options.model, options.images, options.output
    if model.batch_size is not None:
        _at_least("--batch_size", model.batch_size, 1)
    _at_least("--top_k", model.top_k, 1)
    _at_least("--rows_per_part", output.rows_per_part, 1)
    _at_least("--max_pixels", images.max_pixels, 1)
    if images.image_size is not None:
        _at_least("--image_size", images.image_size, 32)
    if images.decode_threads is not None:
        _at_least("--decode_threads", images.decode_threads, 1)
    _share("--min_score", model.min_score)
    _share("--min_cosine", model.min_cosine)
    _share("--max_error_rate", output.max_error_rate)
    if model.batch_size is not None and output.rows_per_part % model.batch_size:
        raise UsageError(
            f"--rows_per_part {output.rows_per_part} is not a multiple of --batch_size"
            f" {model.batch_size}, so each part would end in a padded batch; try"
            f" {-(-output.rows_per_part // model.batch_size) * model.batch_size}"
        )
    if any(character in output.folder for character in "*?["):
        raise UsageError(
            f"--output {output.folder!r} has a glob character; name one folder"
        )


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UsageError(f"{name} {value} is too small; it must be at least {least}")


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{name} {value} is not a share; it must lie from 0 to 1")
