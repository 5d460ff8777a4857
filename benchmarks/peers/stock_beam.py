"""The same job as people write it with what Beam has.

    python -m benchmarks.peers.stock_beam --tar PATH --model FOLDER --output FOLDER

Images of a tar file are decoded in a `Map` by Pillow, go through `RunInference` with
Beam's own handler and default batches, and become dicts for `WriteToParquet`. The
runner is `FnApiRunner`, to which the default `DirectRunner` falls back where it cannot
download another. Keras 3 loads no SavedModel, so the handler loads it by TensorFlow.

Prints a lap. Its seconds are from the opening of the tar file until the Parquet files
are in place: the imports, Beam's start, the model's loading and first step come before.
"""

import argparse
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from apache_beam.io import fileio
from apache_beam.io.parquetio import WriteToParquet
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.ml.inference.tensorflow_inference import TFModelHandlerNumpy
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image

_TOP_K = 10
_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("class_ids", pa.list_(pa.int32())),
        ("scores", pa.list_(pa.float32())),
    ]
)

_opened: list[float] = []


def main() -> None:
    """Runs the job and prints the lap; the table is removed."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers.stock_beam")
    add = parser.add_argument
    add("--tar", type=Path, required=True)
    add("--model", type=Path, required=True, help="a SavedModel with both outputs")
    add("--folder", type=Path, required=True, help="of the table")
    add("--image_size", type=int, default=224)
    args = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="table-") as table:
        run(args.tar, model=args.model, table=Path(table), side=args.image_size)
        ended = time.perf_counter()
        images = sum(pq.read_metadata(path).num_rows for path in Path(table).iterdir())
    seconds = ended - _opened[0]
    lap = {"seconds": seconds, "units": images, "start_s": ended - began - seconds}
    print(json.dumps(lap))


def run(tar: Path, *, model: Path, table: Path, side: int) -> None:
    """Runs the pipeline."""
    options = PipelineOptions(["--runner=FnApiRunner"])
    with beam.Pipeline(options=options) as pipeline:
        (
            pipeline
            | fileio.MatchFiles(str(tar))
            | fileio.ReadMatches()
            | "ReadTar" >> beam.FlatMap(read_tar)
            | "Decode" >> beam.MapTuple(decode, side=side)
            | RunInference(KeyedModelHandler(_Handler(str(model))))
            | "ToRow" >> beam.MapTuple(to_row)
            | WriteToParquet(str(table / "part"), _SCHEMA, file_name_suffix=".parquet")
        )


class _Handler(TFModelHandlerNumpy):
    """Beam's, but for the way to load."""

    def load_model(self) -> Any:
        """Loads a SavedModel without Keras; runs it once, which compiles it."""
        model = tf.saved_model.load(self._model_uri)
        model(tf.zeros([1, 224, 224, 3]))
        return model


def read_tar(file: fileio.ReadableFile) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of each member."""
    _opened.append(time.perf_counter())
    with file.open() as source, tarfile.open(fileobj=source, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            yield member.name.rpartition(".")[0], content.read()


def decode(key: str, data: bytes, side: int = 224) -> tuple[str, np.ndarray]:
    """The image as float32 [side, side, 3] in [0, 1]."""
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    return key, np.asarray(small, np.float32) / 255


def to_row(key: str, result: Any) -> dict[str, Any]:
    """The features, and the best classes with their scores."""
    found = result.inference
    logits = np.asarray(found["logits"])
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    best = np.argsort(-scores)[:_TOP_K]
    return {
        "key": key,
        "embedding": np.asarray(found["pre_logits"]).tolist(),
        "class_ids": best.tolist(),
        "scores": scores[best].tolist(),
    }


if __name__ == "__main__":
    # Functions of `__main__` are pickled by value, and `_opened` would be another list.
    from benchmarks.peers import stock_beam

    stock_beam.main()
