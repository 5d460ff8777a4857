"""A job: everything that a run has decided before its graph is built."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from transforms import (
    ColumnError,
    Columns,
    Cut,
    DamagedShardError,
    Listing,
    Models,
    Outputs,
    Preprocess,
    Shard,
    Shards,
    Sink,
    describe_model,
    kept_types,
    list_shards,
    parse_keep,
    storage,
)
from transforms.bit import ModelInfo, ModelSpec

from . import batch
from .errors import UsageError
from .options import FORMATS, InputOptions, RunOptions

_RESERVED = {
    *("shard", "row", "key", "sha256", "width", "height", "embedding", "predictions"),
    *("stage", "error", "message", "bytes"),
}


@dataclass(frozen=True)
class Job:
    """What a run does.

    Attributes:
      listing: The shards, and what was passed over.
      columns: What readers look for.
      cut: Rows of a block and a part.
      preprocess: How images become pixels.
      models: What predicts.
      infos: Of the models, one or two.
      outputs: What a row keeps.
      output: The output's folder.
      decode_threads: None: one a core.
      max_error_rate: Share of bad images that is allowed.
    """

    listing: Listing
    columns: Columns
    cut: Cut
    preprocess: Preprocess
    models: Models
    infos: tuple[ModelInfo, ...]
    outputs: Outputs
    output: str
    decode_threads: int | None = None
    max_error_rate: float = 1.0

    @property
    def shards(self) -> Shards:
        """All shards."""
        return self.listing.shards

    @property
    def sink(self) -> Sink:
        """Where parts go."""
        digest = identity_digest(self.identity())
        return Sink(self.output, digest, self.max_error_rate)

    def identity(self) -> dict[str, object]:
        """What all rows of the output have in common, as `run.json` keeps it.

        The same for the same command, whenever and wherever it runs.
        """
        model = self.models.label or self.models.embed
        identity: dict[str, object] = {
            "model": _model_identity(self.infos[0]),
            "label_model": _model_identity(self.infos[1]) if self.infos[1:] else None,
            "images": {
                "resize": self.preprocess.resize,
                "fit": self.preprocess.fit,
                "max_pixels": self.preprocess.max_pixels,
            },
            "precision": model.precision,
            "embedding_type": self.outputs.embedding_type,
            "columns": {field.name: str(field.type) for field in self.columns.keep},
            "image_column": self.columns.image,
            "key_column": self.columns.key,
            "rows_per_part": self.cut.part,
        }
        if self.infos[-1].classes:
            identity["predictions"] = {
                "activation": self.infos[-1].activation,
                "labels": _labels_identity(self.infos[-1].labels),
                "top_k": model.top_k,
                "min_score": self.outputs.min_score,
            }
        return identity

    def run_json(self) -> dict[str, object]:
        """Content of `run.json`, as far as it is known before the models are loaded."""
        identity = self.identity()
        return {
            "bitbeam": importlib.metadata.version("bitbeam"),
            "format": 1,
            "identity": identity_digest(identity),
            **identity,
        }


def _model_identity(info: ModelInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "digest": info.digest,
        "architecture": info.architecture,
        "embedding_size": info.embedding_size,
        "classes": info.classes,
        "image_size": info.image_size,
        "meaningless": info.meaningless,
    }


def _labels_identity(labels: str | None) -> str | None:
    """A list's name; of a file what is in it, as its path tells nothing."""
    if labels is None or not os.path.isfile(labels):
        return labels
    with open(labels, "rb") as file:
        return f"sha256:{hashlib.sha256(file.read()).hexdigest()}"


def identity_digest(identity: dict[str, object]) -> str:
    """A digest that differs where the identities do."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan_job(options: RunOptions) -> Job:
    """Looks at the model's headers and lists the shards. Nothing is written.

    Raises:
      UsageError: There is no such model, input or column.
    """
    models = _models(options)
    _check_access(options)
    try:
        infos = tuple(describe_model(spec) for spec in models if spec)
        _check_outputs(infos)
        listing = list_input(
            options.inputs.patterns,
            form=options.inputs.form,
            group_size=options.output.rows_per_part,
            output=_absolute(options.output.folder),
        )
        columns = _columns(options.inputs, listing.shards)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if options.model.batch_size is None:
        gpu = batch.expects_gpu(options)
        models = batch.sized(models, infos=infos, gpu=gpu, shards=listing.shards)
    return Job(
        listing=listing,
        columns=columns,
        cut=Cut(batch.block_rows(models), options.output.rows_per_part),
        preprocess=Preprocess(
            sizes=tuple(sorted({info.image_size for info in infos})),
            resize=options.images.resize,
            fit=options.images.fit,
            max_pixels=options.images.max_pixels,
        ),
        models=models,
        infos=infos,
        outputs=Outputs(options.output.embedding_type, options.model.min_score),
        output=_absolute(options.output.folder),
        decode_threads=options.images.decode_threads,
        max_error_rate=options.output.max_error_rate,
    )


def _check_outputs(infos: tuple[ModelInfo, ...]) -> None:
    """A model may lack the output that it was named for."""
    if not infos[0].embedding_size:
        raise UsageError(
            f"--model {infos[0].name} gives no embedding, only logits: name it as"
            " --label_model"
        )
    if infos[1:] and not infos[1].classes:
        raise UsageError(
            f"--label_model {infos[1].name} has no classes: name one that has a head"
        )


def _check_access(options: RunOptions) -> None:
    """Finds out now, within seconds, what would else fail after minutes of retries."""
    uri = ""
    try:
        for uri in (*options.inputs.patterns, options.output.folder):
            storage.check_access(uri)
    except OSError as error:
        raise UsageError(f"cannot use {uri}: {error}") from error


def list_input(
    patterns: Sequence[str], *, form: str | None, output: str, group_size: int = 4096
) -> Listing:
    """Lists the shards of a run.

    Its own output may lie in a folder of its input, and is none.

    Raises:
      ValueError: There is nothing to read.
    """
    listing = list_shards(patterns, form=form, group_size=group_size, but_below=output)
    if not listing.shards:
        raise ValueError(f"nothing to read in {', '.join(patterns)} but the output")
    return listing


def _absolute(folder: str) -> str:
    return os.path.abspath(folder) if storage.is_local(folder) else folder.rstrip("/")


def _models(options: RunOptions) -> Models:
    def spec(name: str) -> ModelSpec:
        return ModelSpec(
            name=name,
            image_size=options.images.image_size,
            batch_size=options.model.batch_size or 1,
            precision=options.model.precision,
            min_cosine=options.model.min_cosine,
            activation=options.model.activation,
            top_k=options.model.top_k,
            labels=options.model.labels,
        )

    try:
        label = options.model.label_model
        return Models(spec(options.model.model), spec(label) if label else None)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _columns(inputs: InputOptions, shards: Shards) -> Columns:
    """The columns to look for, the types of the kept ones read off the shards."""
    columns = Columns(image=inputs.image_column, key=inputs.key_column)
    for text in inputs.keep_columns:
        name, _ = parse_keep(text)
        if name in _RESERVED:
            raise UsageError(
                f"--keep_columns {name!r} is a column of bitbeam's own; rename it in"
                " the input"
            )
    samples = list(_samples(shards, columns))
    fields = [_kept_field(text, samples, columns) for text in inputs.keep_columns]
    return Columns(image=columns.image, key=columns.key, keep=pa.schema(fields))


def _samples(shards: Shards, columns: Columns) -> Iterator[Shard]:
    """A shard of each format, the first that can be read.

    Raises:
      ColumnError: It is not clear which of its columns is the image.
    """
    for form in FORMATS:
        for shard in shards.of_format(form):
            try:
                kept_types(shard, columns, [])
            except DamagedShardError:
                continue
            yield shard
            break


def _kept_field(text: str, samples: list[Shard], columns: Columns) -> pa.Field:
    """Name and type of a kept column, from the first format that has it.

    Raises:
      ColumnError: None has it.
    """
    for shard in samples[:-1]:
        with contextlib.suppress(ColumnError):
            return kept_types(shard, columns, [text]).field(0)
    if samples:
        return kept_types(samples[-1], columns, [text]).field(0)
    name, kind = parse_keep(text)
    return pa.field(name, kind or pa.string())
