"""The graph, on one screen."""

import json
from typing import Any

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
    WriteParts,
    part_uri,
    storage,
)

from .job import Job
from .output import SUMMARY_JSON
from .plan import Plan


def build(pipeline: beam.Pipeline, job: Job, plan: Plan) -> None:
    """Adds a job's graph to a pipeline.

    Only references to shards are shuffled. From reading to writing, everything may
    fuse into one stage; nothing needs it to.

    Args:
      pipeline: Empty.
      job: What to do.
      plan: What is left of it.
    """
    written: beam.pvalue.PCollection[PartTotals] = (
        pipeline
        | "ListShards" >> beam.Create(plan.shards, reshuffle=False)
        | "SpreadShards" >> beam.Reshuffle()
        | "ReadImages" >> ReadImages(job.columns, cut=job.cut)
        | "DecodeImages" >> DecodeImages(job.preprocess, threads=job.decode_threads)
        | "PredictImages" >> PredictImages(job.models, outputs=job.outputs)
        | "WriteParts" >> WriteParts(job.sink)
    )
    before: beam.pvalue.PCollection[PartTotals] = (
        pipeline
        | "ListDone" >> beam.Create(plan.done, reshuffle=False)
        | "SpreadDone" >> beam.Reshuffle()
        | "ReadTotals" >> ReadTotals(job.sink)
    )
    (
        (written, before)
        | "AllParts" >> beam.Flatten()
        | "Summarize" >> beam.CombineGlobally(Summarize())
        | "Finish" >> beam.ParDo(_Finish(job.output, plan.stale))
    )


class _Finish(beam.DoFn):
    """The summary in, when all parts are whole; nothing goes out.

    Removes the parts that others have replaced, then writes summary.json.
    """

    def __init__(self, output: str, stale: tuple[str, ...]) -> None:
        self._output, self._stale = output, stale

    def process(self, summary: dict[str, Any]) -> None:
        for table in (ERRORS, EMBEDDINGS):
            for stem in self._stale:
                storage.remove(part_uri(self._output, table, stem))
        content = (json.dumps(summary, indent=1) + "\n").encode()
        storage.write_whole(storage.join(self._output, SUMMARY_JSON), content)
