"""`bitbeam plan`: what a run would do, how long it would take, and what it would cost.

Nothing is written. The input is listed and a few shards of each format are read; the
rates come from a file (`rates.json`), so the hours are as good as that is.
"""

import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from . import errors
from .options import FORMATS, RunOptions

if typing.TYPE_CHECKING:
    from transforms import Shard, Shards
    from transforms.bit import ModelInfo

    from .job import Job
    from .plan import Plan
    from .rates import Machine, Range, Rates
    from .sample import Sample

_WIDTH = 100


@dataclass(frozen=True)
class Work:
    """What is left to do.

    Attributes:
      images: How many.
      bytes: Of the shards that hold them.
      parts: Files of `embeddings/` that will be written.
      megapixels: Of an image.
    """

    images: int
    bytes: int
    parts: int
    megapixels: float


@dataclass(frozen=True)
class Cost:
    """What one machine takes.

    Attributes:
      rate: Images a second.
      hours: Of one machine; of n of them an nth.
      usd: Of all of them.
      binds: What the others wait for: `decode`, `model` or `network`.
    """

    rate: "Range"
    hours: "Range"
    usd: "Range"
    binds: tuple[str, ...]


def estimate(options: RunOptions, *, rates_file: Path | None = None) -> int:
    """Prints what a run with these options would do.

    Returns:
      The exit code.

    Raises:
      UsageError: What was asked for is wrong.
    """
    from . import launch
    from .job import plan_job
    from .rates import PACKAGED, read_rates

    rates = read_rates(rates_file or PACKAGED)
    settled = launch.settle(launch.pipeline_options(options), options)
    job = plan_job(options)
    plan, samples = _look(job, overwrite=options.output.overwrite)
    work = work_left(plan.shards, samples, rows_per_part=job.cut.part)
    console = Console(file=sys.stdout, width=_WIDTH, highlight=False)
    console.print(_input_table(job, samples))
    for line in (*_plan_lines(job, plan, work), *_model_lines(job), settled):
        if line:
            console.print(line, soft_wrap=True)
    if work.images:
        console.print(_cost_table(job, work, rates, options.model.precision))
        console.print(
            f"rates of {rates.dated}, from {rates_file or 'the packaged rates.json'}:"
            " each says there whether it was measured, published or is an estimate;"
            " hours are one machine's, n machines take an nth of them for the same"
            " cost, and starting and loading come on top",
        )
    return errors.DONE


def _look(job: "Job", *, overwrite: bool) -> tuple["Plan", dict[str, "Sample"]]:
    """What is left to do, and samples of the input by format."""
    from transforms import parquet

    from . import output
    from .sample import take_sample

    try:
        plan = output.survey(job, overwrite=overwrite)
        return plan, {
            form: take_sample(shards, job.columns)
            for form, shards in _by_format(job.shards).items()
        }
    except (OSError, parquet.NotOursError) as error:
        raise errors.UsageError(f"cannot plan: {error}") from error


def _by_format(shards: "Shards") -> dict[str, "Shards"]:
    found = {form: shards.of_format(form) for form in FORMATS}
    return {form: those for form, those in found.items() if those}


def work_left(
    shards: Sequence["Shard"],
    samples: Mapping[str, "Sample"],
    *,
    rows_per_part: int,
) -> Work:
    """Adds up the shards that need work, without their parts that do not."""
    images = parts = size = 0
    megapixels = 0.0
    for shard in shards:
        sample = samples[shard.format]
        rows = sample.rows_of(shard)
        missing = [
            min(rows_per_part, rows - first)
            for first in range(0, rows, rows_per_part)
            if first not in shard.done_parts
        ]
        left = sum(missing)
        images += left
        parts += max(1, len(missing))
        size += round(shard.size * left / rows) if rows else shard.size
        megapixels += left * sample.mean_megapixels
    return Work(images, size, parts, megapixels / images if images else 0.0)


def cost_of(
    work: Work,
    infos: Sequence["ModelInfo"],
    *,
    machine: "Machine",
    rates: "Rates",
    precision: str,
) -> Cost | None:
    """What the work takes on one machine; None: nothing is known of a model there.

    Reading, decoding and the model overlap, so the slowest binds. Where the model runs
    on the processor that decodes, these two take turns.
    """
    from .rates import Range

    models = [rates.model_rate(machine, info, precision=precision) for info in infos]
    known = [rate for rate in models if rate is not None]
    if len(known) < len(models):
        return None
    milliseconds = rates.decode_ms(work.megapixels)
    decodes = 1000 * machine.vcpus
    stages = {
        "decode": Range(decodes / milliseconds.most, decodes / milliseconds.least),
        "network": machine.gb_per_s.times(1e9 * work.images / max(1, work.bytes)),
        "model": _in_turn(known),
    }
    binds = [min(stages, key=lambda name: stages[name][end]) for end in (0, 1)]
    if rates.is_cpu(machine):
        stages["both"] = _in_turn([stages.pop("decode"), stages.pop("model")])
    rate = Range(*(min(stage[end] for stage in stages.values()) for end in (0, 1)))
    hours = Range(work.images / rate.most / 3600, work.images / rate.least / 3600)
    usd = hours.times(*machine.usd_per_hour)
    return Cost(rate, hours, usd, tuple(dict.fromkeys(binds)))


def _in_turn(rates: Sequence["Range"]) -> "Range":
    """Images a second of steps that wait for one another."""
    from .rates import Range

    return Range(
        1 / sum(1 / rate.least for rate in rates),
        1 / sum(1 / rate.most for rate in rates),
    )


def _input_table(job: "Job", samples: Mapping[str, "Sample"]) -> Table:
    table = Table("input", box=SIMPLE)
    for name in ("shards", "bytes", "images", "bytes an image", "megapixels"):
        table.add_column(name, justify="right")
    for form, shards in _by_format(job.shards).items():
        sample = samples[form]
        images = sum(map(sample.rows_of, shards))
        table.add_row(
            form,
            f"{len(shards):,}",
            _bytes(sum(shard.size for shard in shards)),
            f"{'' if form == 'files' else '~'}{images:,}",
            _bytes(sample.encoded / sample.images) if sample.images else "?",
            f"{sample.mean_megapixels:.2g}" if sample.headers else "?",
        )
    return table


def _plan_lines(job: "Job", plan: "Plan", work: Work) -> typing.Iterator[str]:
    yield (
        f"output: {job.output}: {len(plan.done):,} parts are done,"
        f" {len(plan.stale):,} files of changed shards would be replaced,"
        f" {plan.elsewhere:,} of its shards are not in the input"
    )
    yield (
        f"to do: {len(plan.shards):,} of {len(job.shards):,} shards,"
        f" ~{work.images:,} images, {_bytes(work.bytes)}, ~{work.parts:,} parts"
        if plan.shards
        else "to do: nothing, all is done"
    )


def _model_lines(job: "Job") -> typing.Iterator[str]:
    from .rates import gmacs

    for info in job.infos:
        work = gmacs(info.architecture, image_size=info.image_size)
        yield (
            f"model: {info.name}: {info.architecture}, {info.image_size} px,"
            f" embedding {info.embedding_size:,}, {info.classes:,} classes,"
            f" {info.parameters:,} parameters"
            + (f", {work:.2f} GMAC an image" if work else "")
            + (", random weights: the results would mean nothing" * info.meaningless)
        )


def _cost_table(job: "Job", work: Work, rates: "Rates", precision: str) -> Table:
    table = Table("one machine", box=SIMPLE)
    for name in ("images/s", "hours", "$", "binds"):
        table.add_column(name, justify="right")
    for machine in rates.machines:
        cost = cost_of(
            work, job.infos, machine=machine, rates=rates, precision=precision
        )
        if cost is None:
            table.add_row(machine.name, "?", "?", "?", "no rate for this model")
            continue
        table.add_row(
            machine.name,
            _span(cost.rate),
            _span(cost.hours),
            _span(cost.usd),
            " or ".join(cost.binds),
        )
    return table


def _span(values: "Range") -> str:
    """Two digits of each end: nothing here is known better."""
    if values.most < 0.01:
        return "< 0.01"
    least, most = (float(f"{value:.2g}") for value in values)
    return f"{least:,.{_places(least)}f}-{most:,.{_places(most)}f}"


def _places(value: float) -> int:
    return 0 if value >= 10 else 1 if value >= 1 else 2


def _bytes(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
