"""The graph, on one screen."""

import itertools
import json
from typing import TYPE_CHECKING, Any

import apache_beam as beam

from transforms import (
    EMBEDDINGS,
    ERRORS,
    DecodeImages,
    PartTotals,
    PredictImages,
    ReadImages,
    ReadTotals,
    Summarize,
    UnpackShards,
    UnpackStems,
    WriteParts,
    load_model,
    pack_shards,
    pack_stems,
    part_uri,
    storage,
)
from transforms.packed import unpack_stems
from transforms.strings import Strings

from .job import Job
from .output import (
    SUMMARY_JSON,
    read_run_json,
    record_checks,
    run_digest,
    write_json,
)
from .plan import Plan

if TYPE_CHECKING:  # it imports TensorFlow
    from transforms.device import Loader


def build(
    pipeline: beam.Pipeline, job: Job, plan: Plan, *, load: "Loader" = load_model
) -> None:
    """Adds a job's graph to a pipeline.

    Only references to shards are shuffled. From reading to writing, everything may
    fuse into one stage; nothing needs it to.

    Args:
      pipeline: Empty.
      job: What to do.
      plan: What is left of it.
      load: Loads a model; another one for tests and benchmarks.
    """
    predict = PredictImages(job.models, outputs=job.outputs, load=load)
    predicted, checks = (
        pipeline
        | "Start" >> beam.Impulse()
        | "ListShards" >> beam.ParDo(UnpackShards(pack_shards(plan.shards)))
        | "SpreadShards" >> beam.Reshuffle()
        | "ReadImages" >> ReadImages(job.columns, cut=job.cut)
        | "DecodeImages" >> DecodeImages(job.preprocess, threads=job.decode_threads)
        | "PredictImages" >> predict.with_checks()
    )
    written: beam.pvalue.PCollection[PartTotals] = (
        predicted | "WriteParts" >> WriteParts(job.sink)
    )
    before: beam.pvalue.PCollection[PartTotals] = (
        pipeline
        | "StartDone" >> beam.Impulse()
        | "ListDone" >> beam.ParDo(UnpackStems(pack_stems(plan.done)))
        | "SpreadDone" >> beam.Reshuffle()
        | "ReadTotals" >> ReadTotals(job.sink)
    )
    (
        (written, before)
        | "AllParts" >> beam.Flatten()
        | "Summarize" >> beam.CombineGlobally(Summarize())
        | "Finish"
        >> beam.ParDo(
            _Finish(job.output, pack_stems(Strings(plan.stale).once())),
            beam.pvalue.AsList(checks | "Checks" >> beam.Distinct()),
        )
    )


class _Finish(beam.DoFn):
    """The summary in, when all parts are whole; nothing goes out.

    Removes the parts that others have replaced, adds to run.json what was measured
    of the models, then writes summary.json.

    Args:
      output: The output's folder.
      stale: Chunks of the names of those parts.
    """

    def __init__(self, output: str, stale: tuple[bytes, ...]) -> None:
        self._output, self._stale = output, stale

    def process(self, summary: dict[str, Any], checks: list[str]) -> None:
        for table in (ERRORS, EMBEDDINGS):
            stems = itertools.chain.from_iterable(map(unpack_stems, self._stale))
            storage.remove_each(part_uri(self._output, table, stem) for stem in stems)
        record_checks(self._output, [json.loads(check) for check in checks])
        digest = run_digest(read_run_json(self._output))
        write_json(self._output, SUMMARY_JSON, {**summary, "run_digest": digest})
