"""The arguments of all commands, and the options that they make."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import errors
from . import options as opt

_EPILOG = """\
Every option of Apache Beam works too (--runner, --project, --s3_endpoint_url, ...).
Exit codes: 0 done; 1 the job failed; 2 wrong usage or configuration; 3 finished, but
more images are bad than --max_error_rate allows.
"""


class _Parser(argparse.ArgumentParser):
    """An error is one line."""

    def error(self, message: str) -> NoReturn:
        raise errors.UsageError(f"{message} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="bitbeam",
        description="Shards of images in, a table of BiT embeddings and labels out.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", parser_class=_Parser)
    run = commands.add_parser(
        "run",
        help="read shards, predict, write Parquet",
        description="Reads shards of images, runs BiT on them, writes Parquet.",
        epilog=_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    _add_job(run)
    _add_start(run.add_argument_group("start"))
    _add_plan(commands)
    demo = commands.add_parser(
        "demo",
        help="make sample shards and run the job on them",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    demo.add_argument(
        "--output",
        default="bitbeam-demo",
        metavar="FOLDER",
        help="where all of it goes",
    )
    _add_verify(commands)
    commands.add_parser("models", help="what --model accepts", allow_abbrev=False)
    return parser


def _add_job(command: _Parser) -> None:
    """The options that say what a run does."""
    _add_input(command.add_argument_group("input"))
    _add_model(command.add_argument_group("model"))
    _add_images(command.add_argument_group("images"))
    _add_output(command.add_argument_group("output"))
    _add_runner(command.add_argument_group("runner"))


def _add_plan(commands: "argparse._SubParsersAction[_Parser]") -> None:
    plan = commands.add_parser(
        "plan",
        help="what a run would do, how long and at what cost; nothing is written",
        description="Lists the input, reads a few shards, and writes nothing.",
        epilog=_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    plan.add_argument(
        "--rates",
        type=Path,
        metavar="FILE",
        help="of machines and their prices, in place of the packaged rates.json",
    )
    _add_job(plan)
    plan.set_defaults(no_wait=False, dry_run=False)


def _add_verify(commands: "argparse._SubParsersAction[_Parser]") -> None:
    verify = commands.add_parser(
        "verify",
        help="prove that an output has lost nothing and has nothing twice",
        description="Proves an output from its files alone, or names what is wrong.",
        epilog="Options of Apache Beam's storage work too (--s3_endpoint_url, ...).",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    verify.add_argument("output", metavar="OUTPUT", help="local, gs:// or s3://")
    verify.add_argument(
        "--input",
        action="append",
        metavar="GLOB",
        help="also read these shards again, and compare each image with its row",
    )
    verify.add_argument(
        "--input_format",
        choices=opt.FORMATS,
        help="of all inputs, where their names do not tell",
    )
    verify.add_argument(
        "--unfinished", action="store_true", help="the run has not ended, or was killed"
    )


class _Formatter(
    argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter
):
    """Shows defaults; leaves the epilog as it is."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # None is never what happens: the text itself says what does.
        if action.default is None or action.required:
            return action.help
        return super()._get_help_string(action)


_Group = argparse._ArgumentGroup


def _add_input(group: _Group) -> None:
    group.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="GLOB",
        help="shards (.tar, .tfrecord, .parquet, images) or a folder of them; local,"
        " gs:// or s3://; may be given more than once",
    )
    group.add_argument(
        "--input_format",
        choices=opt.FORMATS,
        help="of all inputs, where their names do not tell",
    )
    group.add_argument(
        "--image_column",
        metavar="NAME",
        help="Parquet column or tf.Example feature of the encoded image; the usual"
        " names are found by themselves",
    )
    group.add_argument(
        "--key_column",
        metavar="NAME",
        help="Parquet column or tf.Example feature of the image's name; likewise",
    )
    group.add_argument(
        "--keep_columns",
        nargs="+",
        default=[],
        metavar="NAME[:TYPE]",
        help="columns, features or tar members (json, txt, cls) to carry to the output",
    )


def _add_model(group: _Group) -> None:
    group.add_argument(
        "--model",
        required=True,
        metavar="MODEL",
        help="gives the embedding; `bitbeam models` lists what it may be",
    )
    group.add_argument(
        "--label_model",
        metavar="MODEL",
        help="a second model, for the predictions; images are decoded once for both",
    )
    group.add_argument(
        "--labels",
        metavar="FILE",
        help="class names: imagenet21k, ilsvrc2012 or a file with one a line; by the"
        " number of classes if not given",
    )
    group.add_argument(
        "--activation", choices=opt.ACTIVATIONS, help="by the model's task if not given"
    )
    group.add_argument("--top_k", type=int, default=10, help="predictions of a row")
    group.add_argument(
        "--min_score", type=float, default=0.0, help="leave out predictions below it"
    )
    group.add_argument(
        "--precision",
        choices=opt.PRECISIONS,
        default="auto",
        help="of the model; auto is what the device has matrix units for",
    )
    group.add_argument(
        "--min_cosine",
        type=float,
        default=0.98,
        help="least likeness of reduced precision to float32; below it float32 runs",
    )
    group.add_argument(
        "--batch_size",
        type=opt.batch_size,
        metavar="IMAGES",
        help="of a step; auto (default): what is best there, measured for large inputs",
    )


def _add_images(group: _Group) -> None:
    group.add_argument(
        "--image_size",
        type=int,
        metavar="PIXELS",
        help="side; the model's if not given",
    )
    group.add_argument(
        "--resize",
        choices=opt.RESIZES,
        default="antialias",
        help="bilinear is tf.image.resize's, without antialias",
    )
    group.add_argument(
        "--fit",
        choices=opt.FITS,
        default="stretch",
        help="how a picture becomes square",
    )
    group.add_argument(
        "--max_pixels",
        type=int,
        default=100_000_000,
        help="larger images are refused before they are decoded",
    )
    group.add_argument(
        "--decode_threads", type=int, metavar="N", help="one a core if not given"
    )


def _add_output(group: _Group) -> None:
    group.add_argument(
        "--output", required=True, metavar="FOLDER", help="local, gs:// or s3://"
    )
    group.add_argument("--overwrite", action="store_true", help="start afresh")
    group.add_argument(
        "--rows_per_part", type=int, default=4096, help="rows of one output file"
    )
    group.add_argument(
        "--embedding_type",
        choices=opt.EMBEDDING_TYPES,
        default="float32",
        help="stored",
    )
    group.add_argument(
        "--max_error_rate",
        type=float,
        default=0.5,
        help="share of bad images above which the exit code is 3; where nearly all of"
        " 2,000 in a row are bad, the run stops at once",
    )


def _add_runner(group: _Group) -> None:
    group.add_argument(
        "--runner", default="DirectRunner", help="a Beam runner; the default is local"
    )
    group.add_argument(
        "--gpu",
        metavar="NAME",
        help="of every worker on Dataflow, such as nvidia-l4; the machine and the"
        " driver follow from it",
    )


def _add_start(group: _Group) -> None:
    group.add_argument(
        "--no_wait", action="store_true", help="submit the job and print its id"
    )
    group.add_argument(
        "--dry_run",
        action="store_true",
        help="look at the input and the model, build the job, and stop there",
    )


def run_options(args: argparse.Namespace, others: Sequence[str]) -> opt.RunOptions:
    """The options of `bitbeam run`, checked.

    Args:
      args: Parsed.
      others: Arguments that are for Beam.
    """
    options = opt.RunOptions(
        inputs=opt.InputOptions(
            patterns=tuple(args.input),
            form=args.input_format,
            image_column=args.image_column,
            key_column=args.key_column,
            keep_columns=tuple(args.keep_columns),
        ),
        model=opt.ModelOptions(
            model=args.model,
            label_model=args.label_model,
            labels=args.labels,
            activation=args.activation,
            top_k=args.top_k,
            min_score=args.min_score,
            precision=args.precision,
            min_cosine=args.min_cosine,
            batch_size=args.batch_size,
        ),
        images=opt.ImageOptions(
            image_size=args.image_size,
            resize=args.resize,
            fit=args.fit,
            max_pixels=args.max_pixels,
            decode_threads=args.decode_threads,
        ),
        output=opt.OutputOptions(
            folder=args.output,
            rows_per_part=args.rows_per_part,
            embedding_type=args.embedding_type,
            overwrite=args.overwrite,
            max_error_rate=args.max_error_rate,
        ),
        runner=args.runner,
        gpu=args.gpu,
        no_wait=args.no_wait,
        dry_run=args.dry_run,
        beam=tuple(others),
    )
    opt.check(options)
    return options


def verify_options(
    args: argparse.Namespace, others: Sequence[str]
) -> opt.VerifyOptions:
    """The options of `bitbeam verify`.

    Args:
      args: Parsed.
      others: Arguments that are for Beam.
    """
    return opt.VerifyOptions(
        output=args.output,
        inputs=tuple(args.input or ()),
        form=args.input_format,
        unfinished=args.unfinished,
        beam=tuple(others),
    )
