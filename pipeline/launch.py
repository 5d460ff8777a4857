"""Beam's side of a run: its options, a runner, and waiting for the end."""

import argparse
import difflib

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    TestOptions,
    WorkerOptions,
)
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from . import dataflow, registry, submission, worker_log
from .errors import JobError, UsageError
from .options import RunOptions
from .remote import RemoteJob, sums

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
    if options.gpu and not _is_dataflow(made):
        raise UsageError(
            f"--gpu {options.gpu} is for DataflowRunner; elsewhere TensorFlow takes the"
            " GPU that it finds"
        )
    if options.no_wait and lives_here(made):
        raise UsageError(
            "--no_wait: the workers of this job end with this command; leave it out"
        )
    return made


def settle(beam_options: PipelineOptions, options: RunOptions) -> str:
    """Fills in what the runner needs and was not given.

    Returns:
      What was filled in, for a person; empty where nothing was.

    Raises:
      UsageError: Something is missing, or contradicts something else.
    """
    if not _is_dataflow(beam_options):
        return ""
    return dataflow.describe(beam_options, dataflow.settle(beam_options, options))


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
    from .arguments import build_parser

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
    worker_log.make_plain()
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(info))


def make_pipeline(options: PipelineOptions) -> beam.Pipeline:
    """An empty pipeline with its runner.

    Raises:
      UsageError: Beam's own checks refuse an option, or there is no such image.
    """
    if not lives_here(options):
        submission.prepare()
    runner: PipelineRunner | str = (
        local_runner(options)
        if is_local(options)
        else options.view_as(StandardOptions).runner
    )
    try:
        pipeline = beam.Pipeline(runner=runner, options=options)
    except ValueError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise UsageError(lines[-1].strip()) from error
    if _is_dataflow(options):
        workers = options.view_as(WorkerOptions)
        name = workers.sdk_container_image or workers.worker_harness_container_image
        registry.check(name)
    return pipeline


def _is_dataflow(options: PipelineOptions) -> bool:
    return options.view_as(StandardOptions).runner.lower() == "dataflowrunner"


def is_local(options: PipelineOptions) -> bool:
    """Whether a pipeline works in this process while `run` is called."""
    return options.view_as(StandardOptions).runner == "FnApiRunner"


def lives_here(options: PipelineOptions) -> bool:
    """Whether a pipeline's workers end with this process."""
    portable = options.view_as(PortableOptions)
    return (
        is_local(options)
        or portable.environment_type == "LOOPBACK"
        or portable.job_endpoint == "embed"
    )


def wait(pipeline: beam.Pipeline) -> dict[str, int]:
    """Runs a pipeline in this process to its end.

    Returns:
      Sums of bitbeam's counters and times, from all workers.

    Raises:
      JobError: It failed or was cancelled.
    """
    result: PipelineResult = pipeline.run()
    state = result.wait_until_finish()
    if state not in (None, PipelineState.DONE):
        raise JobError(f"the job ended as {state}")
    return sums(result, done=True)


def rehearse(pipeline: beam.Pipeline) -> None:
    """Lets a remote runner check and translate a pipeline, but not submit it."""
    if _is_dataflow(pipeline.options):
        pipeline.options.view_as(TestOptions).dry_run = True
        pipeline.run()


def submit(pipeline: beam.Pipeline) -> RemoteJob:
    """Hands a pipeline to a runner that works elsewhere."""
    options = pipeline.options

    def run() -> RemoteJob:
        return RemoteJob(pipeline.run(), options)

    return run() if lives_here(options) else submission.submit(run, options)
