"""Runs pipelines once, on the local runner, which touches no network."""

from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.runner import PipelineResult

_gathered: list[Any] = []


def _gather(element: Any) -> None:
    _gathered.append(element)


def run(build: Callable[[beam.Pipeline], Any], *, workers: int = 1) -> PipelineResult:
    """Builds a pipeline, runs it to its end and gives its result.

    Args:
      build: Adds the steps.
      workers: Threads, each with a bundle of its own behind every shuffle.
    """
    mode = "multi_threading" if workers > 1 else "in_memory"
    options = PipelineOptions(direct_num_workers=workers, direct_running_mode=mode)
    pipeline = beam.Pipeline(runner=fn_runner.FnApiRunner(), options=options)
    build(pipeline)
    result = pipeline.run()
    result.wait_until_finish()
    return result


def run_on(
    transform: beam.PTransform, elements: Iterable[Any], *, workers: int = 1
) -> tuple[list[Any], PipelineResult]:
    """What a transform makes of elements, in order of arrival, and the result.

    The runner works in this process, so a list of this module can gather.
    """
    _gathered.clear()
    result = run(
        lambda pipeline: (
            pipeline
            | beam.Create(list(elements), reshuffle=False)
            | "Tested" >> transform
            | "Gather" >> beam.Map(_gather)
        ),
        workers=workers,
    )
    return list(_gathered), result


def counters(result: PipelineResult) -> dict[str, int]:
    """Sums of bitbeam's counters by name."""
    found = result.metrics().query(MetricsFilter().with_namespace("bitbeam"))
    sums: dict[str, int] = {}
    for counter in found["counters"]:
        name = counter.key.metric.name
        sums[name] = sums.get(name, 0) + counter.committed
    return sums


def distributions(result: PipelineResult) -> dict[str, int]:
    """Sums of bitbeam's distributions by name."""
    found = result.metrics().query(MetricsFilter().with_namespace("bitbeam"))
    sums: dict[str, int] = {}
    for distribution in found["distributions"]:
        name = distribution.key.metric.name
        sums[name] = sums.get(name, 0) + distribution.committed.sum
    return sums
