"""`bitbeam run`: plans, runs, reports."""

import contextlib
import logging
import os
import sys
import typing
import warnings
from collections.abc import Mapping

from . import errors
from .bottleneck import bottleneck
from .options import RunOptions
from .progress import Watch, duration

if typing.TYPE_CHECKING:
    import apache_beam as beam

    from .job import Job
    from .plan import Plan
    from .remote import RemoteJob


def run(options: RunOptions) -> int:
    """Runs the job and prints its last lines.

    Returns:
      The exit code.

    Raises:
      UsageError: What was asked for is wrong; nothing has been started.
    """
    _quieten()
    # Three seconds of imports: only now is it sure that they are needed.
    from transforms import parquet

    from . import graph, launch, output
    from .job import plan_job

    beam_options = launch.pipeline_options(options)
    settled = launch.settle(beam_options, options)
    pipeline = launch.make_pipeline(beam_options)
    job = plan_job(options)
    try:
        look = output.survey if options.dry_run else output.prepare
        plan = look(job, overwrite=options.output.overwrite)
    except (OSError, parquet.NotOursError) as error:
        raise errors.UsageError(f"--output {job.output}: {error}") from error
    _say(_plan_line(job, plan))
    if settled:
        _say(settled)
    graph.build(pipeline, job, plan)
    total = sum(shard.size for shard in plan.shards)
    try:
        if options.dry_run:
            launch.rehearse(pipeline)
            _say("dry run: the job can be built; nothing is submitted or written")
            return errors.DONE
        ended = _execute(pipeline, total_bytes=total, no_wait=options.no_wait)
    except Exception as error:  # whatever a step raised, on whatever runner
        if _wants_traceback():
            raise
        _say(f"failed: {_one_line(error)}")
        too_many = "TooManyBadError" in f"{error!r} {error.__cause__!r}"
        return errors.TOO_MANY_BAD if too_many else errors.FAILED
    if ended is None:
        return errors.DONE
    summary = output.read_summary(job.output) or {}
    return _report(summary, *ended, options)


def _execute(
    pipeline: "beam.Pipeline", *, total_bytes: int, no_wait: bool
) -> tuple[dict[str, int], float] | None:
    """Runs a pipeline, here or elsewhere, and shows how far it is.

    Returns:
      Sums of the steps' metrics, and seconds; None: submitted, and not waited for.
    """
    from transforms import metrics

    from . import launch

    if launch.is_local(pipeline.options):
        with Watch(metrics.tally, total_bytes=total_bytes, stream=sys.stderr) as watch:
            return launch.wait(pipeline), watch.seconds
    job = launch.submit(pipeline)
    if no_wait or not job.id:
        _say_submitted(job)
        return None
    here = launch.lives_here(pipeline.options)
    alone = contextlib.nullcontext() if here else job.left_alone()
    tally = metrics.tally if here else job.tally
    with alone, Watch(tally, total_bytes=total_bytes, stream=sys.stderr) as watch:
        _say(f"submitted as job {job.id} {job.where}".rstrip())
        return job.finish(), watch.seconds


def _say_submitted(job: "RemoteJob") -> None:
    if not job.id:
        _say("the job is written to --template_location, and not submitted")
        return
    print(job.id, flush=True)
    _say(
        f"submitted; see {job.where or 'the cluster'}; the same command goes on from"
        " what is written, if it should end early"
    )


def _quieten() -> None:
    """Leaves the screen to the progress line, unless somebody has asked for more."""
    handler = _CurrentStderr()
    if not _wants_traceback():
        # Job servers send on what workers raise, each trace several times.
        handler.addFilter(_is_no_trace)
    logging.basicConfig(
        level=logging.WARNING, format="bitbeam: %(message)s", handlers=[handler]
    )
    # What is measured of a model at load, and how far its copying is.
    logging.getLogger("transforms").setLevel(logging.INFO)
    # Google's clients say it of Python 3.10, a line for each of them.
    warnings.filterwarnings("ignore", message="You are using a non-supported Python")
    if not _wants_traceback():
        # It logs what it raises, trace and all; the last line says it once.
        logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
        # So do Dataflow's, message by message; its warnings, of quotas, are its own.
        for name in ("dataflow_runner", "internal.apiclient"):
            logger = logging.getLogger(f"apache_beam.runners.dataflow.{name}")
            logger.addFilter(_is_no_error)


def _is_no_trace(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR or "Traceback (" not in record.getMessage()


def _is_no_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


class _CurrentStderr(logging.StreamHandler):  # type: ignore[type-arg]  # until 3.11
    """Logs to what stderr is now: a progress bar puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        self.setStream(sys.stderr)
        super().emit(record)


def _wants_traceback() -> bool:
    return bool(os.environ.get("BITBEAM_TRACEBACK"))


def _say(text: str) -> None:
    print(f"bitbeam: {text}", file=sys.stderr, flush=True)


def _plan_line(job: "Job", plan: "Plan") -> str:
    parts = [f"{len(job.shards):,} shards in, {len(plan.shards):,} with work left"]
    if plan.done:
        parts.append(f"{len(plan.done):,} parts are done")
    if plan.stale:
        parts.append(f"{len(plan.stale):,} files of changed shards will be replaced")
    if plan.elsewhere:
        parts.append(f"{plan.elsewhere:,} shards of the table are not in the input")
    parts += [
        f"{info.name} ({info.architecture}, {info.image_size} px"
        + (", random weights: the results mean nothing)" if info.meaningless else ")")
        for info in job.infos
    ]
    if job.listing.ignored:
        passed = ", ".join(
            f"{count:,} {name or 'without a suffix'}"
            for name, count in sorted(job.listing.ignored.items())
        )
        parts.append(f"passed over files that are no shards or images: {passed}")
    return "; ".join(parts)


def _one_line(error: BaseException) -> str:
    """What an error says, without the trace of the steps that it passed."""
    if isinstance(error, errors.JobError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _report(
    summary: Mapping[str, typing.Any],
    sums: Mapping[str, int],
    seconds: float,
    options: RunOptions,
) -> int:
    """Prints the last lines.

    Returns:
      The exit code.
    """
    images, bad = summary.get("images", 0), summary.get("bad", 0)
    written = sums.get("images_written", 0)
    causes = ", ".join(f"{rows:,} {error}" for error, rows in summary["errors"].items())
    rate = f", {written / seconds:.1f} images/s" if written else ""
    print(
        f"bitbeam: done: {written:,} images in {duration(seconds)}{rate};"
        f" the table has {images:,}: {summary['good']:,} good, {bad:,} bad"
        + (f" ({causes})" if causes else "")
        + f"; {summary['parts']:,} parts of {summary['shards']:,} shards in"
        f" {options.output.folder}",
        flush=True,
    )
    if bound := bottleneck(sums, seconds=seconds):
        print(f"bitbeam: {bound}", flush=True)
    if images and bad / images > options.output.max_error_rate:
        _say(
            f"{bad / images:.1%} of the images are bad, more than --max_error_rate"
            f" {options.output.max_error_rate:.1%}; see {options.output.folder}/errors"
        )
        return errors.TOO_MANY_BAD
    return errors.DONE
