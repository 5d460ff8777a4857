"""`bitbeam run`: plans, runs, reports."""

import logging
import os
import sys
import typing
import warnings
from collections.abc import Mapping

from . import errors
from .options import RunOptions
from .progress import Watch, duration

if typing.TYPE_CHECKING:
    from .job import Job
    from .plan import Plan


def run(options: RunOptions) -> int:
    """Runs the job and prints its last line.

    Returns:
      The exit code.

    Raises:
      UsageError: What was asked for is wrong; nothing has been started.
    """
    _quieten()
    # Three seconds of imports: only now is it sure that they are needed.
    from transforms import metrics, parquet

    from . import graph, launch, output
    from .job import plan_job

    beam_options = launch.pipeline_options(options)
    job = plan_job(options)
    try:
        plan = output.prepare(job, overwrite=options.output.overwrite)
    except (OSError, parquet.NotOursError) as error:
        raise errors.UsageError(f"--output {job.output}: {error}") from error
    _say(_plan_line(job, plan))
    pipeline = launch.make_pipeline(beam_options)
    graph.build(pipeline, job, plan)
    total = sum(shard.size for shard in plan.shards)
    with Watch(metrics.tally, total_bytes=total, stream=sys.stderr) as watch:
        try:
            sums = launch.wait(pipeline)
        except Exception as error:  # whatever a step raised, on whatever runner
            if _wants_traceback():
                raise
            _say(f"failed: {_one_line(error)}")
            too_many = "TooManyBadError" in repr(error)
            return errors.TOO_MANY_BAD if too_many else errors.FAILED
    summary = output.read_summary(job.output) or {}
    return _report(summary, sums, watch.seconds, options)


def _quieten() -> None:
    """Leaves the screen to the progress line, unless somebody has asked for more."""
    logging.basicConfig(
        level=logging.WARNING,
        format="bitbeam: %(message)s",
        handlers=[_CurrentStderr()],
    )
    # What is measured of a model at load, and how far its copying is.
    logging.getLogger("transforms").setLevel(logging.INFO)
    # Google's clients say it of Python 3.10, a line for each of them.
    warnings.filterwarnings("ignore", message="You are using a non-supported Python")
    if not _wants_traceback():
        # It logs what it raises, trace and all; the last line says it once.
        logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)


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
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _report(
    summary: Mapping[str, typing.Any],
    sums: Mapping[str, int],
    seconds: float,
    options: RunOptions,
) -> int:
    """Prints the last line.

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
    if images and bad / images > options.output.max_error_rate:
        _say(
            f"{bad / images:.1%} of the images are bad, more than --max_error_rate"
            f" {options.output.max_error_rate:.1%}; see {options.output.folder}/errors"
        )
        return errors.TOO_MANY_BAD
    return errors.DONE
