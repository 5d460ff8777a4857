"""`bitbeam verify`: proves an output from its files, or names what is wrong."""

import os
import sys
import threading
import typing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from . import errors
from .options import VerifyOptions
from .progress import Watch

if typing.TYPE_CHECKING:
    from transforms import Shard

    from .audit import Audit
    from .identity import Identity
    from .inventory import Inventory
    from .ledger import Manifest
    from .problems import Problems

_THREADS = 4
"""Parts and shards in hand, and in memory."""


def verify(options: VerifyOptions) -> int:
    """Proves an output; prints the problems, or one last line.

    Returns:
      The exit code.

    Raises:
      UsageError: There is no output to prove, or no input to prove it by.
    """
    if options.unfinished and options.inputs:
        raise errors.UsageError(
            "--unfinished and --input do not go together: with --input, what is missing"
            " is a problem"
        )
    # Seconds of imports: only now is it sure that they are needed.
    from . import launch
    from .problems import Problems

    launch.storage_options(options.beam)
    try:
        held = _Held.take(options)
        problems, tally = Problems(), _Tally()
        with Watch(tally.read, total_bytes=held.bytes, stream=sys.stderr):
            audits = _prove_table(held, options, problems=problems, tally=tally)
            absent = _prove_input(held, audits, problems=problems, tally=tally)
    except OSError as error:
        raise errors.UsageError(f"{options.output}: {error}") from error
    return _report(problems, audits, options, absent=absent)


class _Tally:
    """Counts for the progress line, from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images = self._bytes = 0

    def add(self, *, images: int = 0, bytes_: int = 0) -> None:
        with self._lock:
            self._images += images
            self._bytes += bytes_

    def read(self) -> Mapping[str, int]:
        """As the metrics of a run, which the progress line is made for."""
        return {"images_predicted": self._images, "bytes_read": self._bytes}


@dataclass(frozen=True)
class _Held:
    """What there is to prove.

    Attributes:
      output: Absolute.
      inventory: Its files.
      identity: What run.json says.
      shards: To compare with; None: nothing.
    """

    output: str
    inventory: "Inventory"
    identity: "Identity"
    shards: "Sequence[Shard] | None"

    @classmethod
    def take(cls, options: VerifyOptions) -> "_Held":
        """Lists the output and the input.

        Raises:
          UsageError: There is no output, or nothing to read in the input.
          OSError: The storage fails.
        """
        from transforms import storage

        from .identity import read_identity
        from .inventory import take_inventory
        from .job import list_input
        from .output import RUN_JSON

        output = options.output.rstrip("/")
        output = os.path.abspath(output) if storage.is_local(output) else output
        inventory = take_inventory(output)
        if RUN_JSON not in inventory.own:
            raise errors.UsageError(
                f"{options.output} has no {RUN_JSON}: it is no output of bitbeam"
            )
        shards = None
        if options.inputs:
            try:
                listing = list_input(options.inputs, form=options.form, output=output)
                shards = listing.shards
            except ValueError as error:
                raise errors.UsageError(str(error)) from error
        identity = read_identity(_read(output, RUN_JSON))
        return cls(output, inventory, identity, shards)

    @property
    def bytes(self) -> int:
        """Of all that will be read."""
        tables = (self.inventory.good, self.inventory.bad)
        shards = self.shards or ()
        return sum(sum(table.values()) for table in tables) + sum(
            shard.size for shard in shards
        )


def _read(output: str, *names: str) -> bytes:
    from transforms import storage

    with storage.open_input(storage.join(output, *names)) as source:
        return source.read()


def _prove_table(
    held: _Held, options: VerifyOptions, *, problems: "Problems", tally: _Tally
) -> "dict[str, Audit]":
    """Proves the output from its files alone.

    Returns:
      What was found in each part, by stem.
    """
    from . import ledger
    from .output import RUN_JSON, SUMMARY_JSON

    inventory = held.inventory
    problems.extend(held.identity.problems)
    audits: dict[str, Audit] = {}
    for audit in _audits(held, tally):
        problems.extend(audit.problems)
        audits[audit.stem] = audit
    problems.extend(ledger.check_schemas(audits.values()))
    problems.extend(ledger.check_strays(inventory, finished=not options.unfinished))
    if options.unfinished:
        spans = ledger.spans_of(audits, manifest={})
        problems.extend(ledger.check_spans(spans, finished=False))
        return audits
    manifest = _manifest(held, problems)
    spans = ledger.spans_of(audits, manifest=manifest or {})
    problems.extend(ledger.check_spans(spans, finished=True))
    problems.extend(ledger.check_files(list(audits.values())))
    if manifest is not None:
        problems.extend(ledger.check_manifest(manifest, audits))
        if not problems.total:
            totals = [audit.totals for audit in audits.values() if audit.totals]
            summary = _read(held.output, SUMMARY_JSON)
            run_json = _read(held.output, RUN_JSON)
            problems.extend(ledger.check_summary(summary, totals, run_json=run_json))
    return audits


def _audits(held: _Held, tally: _Tally) -> "Iterator[Audit]":
    from .audit import audit_part

    good, bad = held.inventory.good, held.inventory.bad

    def read(table: str, stem: str) -> bytes:
        return _read(held.output, table, f"{stem}.parquet")

    def audit(stem: str) -> "Audit":
        made = audit_part(
            stem, has_errors=stem in bad, read=read, expected=held.identity.expected
        )
        images = made.totals.end_row - made.totals.first_row if made.totals else 0
        tally.add(images=images, bytes_=good[stem] + bad.get(stem, 0))
        return made

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="audit") as pool:
        yield from pool.map(audit, good)


def _manifest(held: _Held, problems: "Problems") -> "Manifest | None":
    """The parts that the summary lists; None: it does not tell."""
    from .ledger import read_manifest
    from .output import SUMMARY_JSON
    from .problems import Problem

    if SUMMARY_JSON not in held.inventory.own:
        what = (
            "is missing: the run has not finished (--unfinished proves what is there)"
        )
        problems.extend([Problem("unfinished", SUMMARY_JSON, what)])
        return None
    try:
        return read_manifest(_read(held.output, SUMMARY_JSON))
    except ValueError as error:
        problems.extend([Problem("damaged", SUMMARY_JSON, f"is damaged: {error}")])
        return None


def _prove_input(
    held: _Held,
    audits: "Mapping[str, Audit]",
    *,
    problems: "Problems",
    tally: _Tally,
) -> int:
    """Holds the table against the input, if there is one.

    Returns:
      How many shards and files of the table are not in it.
    """
    from . import source

    if held.shards is None:
        return 0
    whole = [audit.totals for audit in audits.values() if not audit.problems]
    there = source.match_up(
        held.shards, [part for part in whole if part], output=held.output
    )
    problems.extend(there.problems)
    compare = partial(
        source.compare,
        columns=held.identity.columns,
        output=held.output,
        counted=lambda size: tally.add(images=1, bytes_=size),
    )
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="compare") as pool:
        for found in pool.map(compare, there.tasks):
            problems.extend(found)
    return there.absent


def _report(
    problems: "Problems",
    audits: "Mapping[str, Audit]",
    options: VerifyOptions,
    *,
    absent: int,
) -> int:
    """Prints what was found.

    Returns:
      The exit code.
    """
    for line in problems.lines():
        print(f"bitbeam: {line}")
    if absent:
        _say(f"{absent:,} shards and files of the table are not in the input")
    parts = [audit.totals for audit in audits.values() if audit.totals]
    if problems.total:
        _say(f"{problems.total:,} problems in {options.output}")
        return errors.FAILED
    images = sum(part.end_row - part.first_row for part in parts)
    shards = len({part.shard for part in parts})
    found = f"{images:,} images in {len(parts):,} parts of {shards:,} shards"
    if options.unfinished:
        print(f"bitbeam: verified so far: {found}: each part is whole", flush=True)
    else:
        print(
            f"bitbeam: verified: {found}: nothing lost, nothing twice"
            + (", as in the input" if options.inputs else ""),
            flush=True,
        )
    return errors.DONE


def _say(text: str) -> None:
    print(f"bitbeam: {text}", file=sys.stderr, flush=True)
