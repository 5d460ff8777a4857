"""Beam's side of a run: its options, a runner, and waiting for the end."""

import argparse
import difflib
from collections import Counter

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from transforms import metrics

from .errors import JobError, UsageError
from .options import RunOptions

_LOCAL = ("DirectRunner", "FnApiRunner")


def pipeline_options(options: RunOptions) -> PipelineOptions:
    """Beam's options, also known to its file systems from now on.

    Raises:
      UsageError: An argument is neither bitbeam's nor Beam's, or its value is wrong.
    """
    _check_known(options.beam)
    # Never plain DirectRunner: it begins by downloading another runner, and behind a
    # firewall that does not answer it hangs, silently.
    runner = "FnApiRunner" if options.runner in _LOCAL else options.runner
    made = PipelineOptions([f"--runner={runner}", *options.beam])
    FileSystems.set_options(made)
    return made


def storage_options(arguments: tuple[str, ...]) -> None:
    """Makes options known to Beam's file systems, for a command that runs no pipeline.

    Raises:
      UsageError: An argument is not Beam's, or its value is wrong.
    """
    _check_known(arguments)
    FileSystems.set_options(PipelineOptions(list(arguments)))


class _BeamParser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(message)


def _check_known(arguments: tuple[str, ...]) -> None:
    parser = _BeamParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        name = unknown[0].split("=", 1)[0]
        known = [
            option for action in parser._actions for option in action.option_strings
        ]
        raise UsageError(f"unknown option {name}{_nearest(name, [*known, *_ours()])}")


def _ours() -> list[str]:
    from .cli import build_parser

    commands = build_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    run = commands["run"]  # type: ignore[index]
    return [option for action in run._actions for option in action.option_strings]


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def local_runner(options: PipelineOptions) -> fn_runner.FnApiRunner:
    """The runner in this process, which tells its workers the options.

    Without the provision info worker processes would get no options at all, so no
    S3 endpoint and no project.
    """
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(info))


def make_pipeline(options: PipelineOptions) -> beam.Pipeline:
    """An empty pipeline with its runner."""
    name = options.view_as(StandardOptions).runner
    runner: PipelineRunner | str = (
        local_runner(options) if name == "FnApiRunner" else name
    )
    return beam.Pipeline(runner=runner, options=options)


def wait(pipeline: beam.Pipeline) -> dict[str, int]:
    """Runs a pipeline to its end.

    Returns:
      Sums of bitbeam's counters and times, from all workers.

    Raises:
      JobError: It failed or was cancelled.
    """
    result: PipelineResult = pipeline.run()
    state = result.wait_until_finish()
    if state not in (None, PipelineState.DONE):
        raise JobError(f"the job ended as {state}")
    found = result.metrics().query(MetricsFilter().with_namespace(metrics.NAMESPACE))
    sums: Counter[str] = Counter()
    for counter in found["counters"]:
        sums[counter.key.metric.name] += counter.committed
    for distribution in found["distributions"]:
        sums[distribution.key.metric.name] += distribution.committed.sum
    return dict(sums)
