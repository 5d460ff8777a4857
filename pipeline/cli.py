"""The command line: dispatches, and turns what goes wrong into exit codes.

0 done; 1 the job failed; 2 wrong usage or configuration, one line and no traceback;
3 finished, but too many images are bad; 130 interrupted.
"""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from . import errors
from .arguments import build_parser, run_options, verify_options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: Without the program's name; None: the process's.

    Returns:
      The exit code.
    """
    # Not KeyboardInterrupt: Beam turns it into a failure of the step it fell into.
    before = signal.signal(signal.SIGINT, _stop_at_once)
    try:
        return _dispatch(sys.argv[1:] if argv is None else list(argv))
    except errors.UsageError as error:
        print(f"bitbeam: error: {error}", file=sys.stderr)
        return errors.USAGE
    finally:
        signal.signal(signal.SIGINT, before)


def _stop_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the process now; threads that decode or predict are not waited for."""
    print("\nbitbeam: interrupted; what is written is whole", file=sys.stderr)
    if "transforms.storage" in sys.modules:
        sys.modules["transforms.storage"].abandon_writes()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(errors.INTERRUPTED)


def _dispatch(argv: list[str]) -> int:
    parser = build_parser()
    args, others = parser.parse_known_args(argv)
    if args.command == "run":
        from .run import run

        return run(run_options(args, others))
    if args.command == "plan":
        from .estimate import estimate

        return estimate(run_options(args, others), rates_file=args.rates)
    if args.command == "verify":
        from .verify import verify

        return verify(verify_options(args, others))
    if others:
        raise errors.UsageError(f"bitbeam {args.command} has no option {others[0]!r}")
    if args.command == "demo":
        from .demo import demo

        return demo(args.output)
    if args.command == "models":
        from .models import print_models

        print_models()
        return errors.DONE
    parser.print_help()
    return errors.USAGE
