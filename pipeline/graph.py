"""The graph, on one screen."""

import json

import apache_beam as beam

from transforms import (
    DecodeImages,
    PartTotals,
    PredictImages,
    ReadImages,
    ReadTotals,
    Shard,
    SumTotals,
    WriteParts,
    storage,
)

from .job import Job
from .output import SUMMARY_JSON


def build(
    pipeline: beam.Pipeline, job: Job, *, shards: list[Shard], done: list[str]
) -> None:
    """Adds a job's graph to a pipeline.

    Only references to shards are shuffled. From reading to writing, everything may
    fuse into one stage; nothing needs it to.

    Args:
      pipeline: Empty.
      job: What to do.
      shards: Those that need work.
      done: Stems of the parts that need none; they count in the totals.
    """
    written: beam.pvalue.PCollection[PartTotals] = (
        pipeline
        | "ListShards" >> beam.Create(shards, reshuffle=False)
        | "SpreadShards" >> beam.Reshuffle()
        | "ReadImages" >> ReadImages(job.columns, cut=job.cut)
        | "DecodeImages" >> DecodeImages(job.preprocess, threads=job.decode_threads)
        | "PredictImages" >> PredictImages(job.models, outputs=job.outputs)
        | "WriteParts" >> WriteParts(job.sink)
    )
    before: beam.pvalue.PCollection[PartTotals] = (
        pipeline
        | "ListDone" >> beam.Create(done, reshuffle=False)
        | "SpreadDone" >> beam.Reshuffle()
        | "ReadTotals" >> ReadTotals(job.sink)
    )
    (
        (written, before)
        | "AllParts" >> beam.Flatten()
        | "SumTotals" >> beam.CombineGlobally(SumTotals())
        | "WriteSummary" >> beam.ParDo(_WriteSummary(job.output))
    )


class _WriteSummary(beam.DoFn):
    """The totals in; writes summary.json. Nothing goes out."""

    def __init__(self, output: str) -> None:
        self._output = output

    def process(self, totals: dict[str, object]) -> None:
        content = (json.dumps(totals, indent=2) + "\n").encode()
        storage.write_whole(storage.join(self._output, SUMMARY_JSON), content)
