"""The output's own files: run.json, summary.json, and which parts are there."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from transforms import EMBEDDINGS, ERRORS, read_members, read_resume_at, storage
from transforms.strings import Strings

from .errors import UsageError
from .job import Job
from .plan import Plan, make_plan

RUN_JSON, SUMMARY_JSON = "run.json", "summary.json"


def prepare(job: Job, *, overwrite: bool) -> Plan:
    """Makes the output ready for a job: its own, or empty.

    Writes `run.json` where there is none. Removes what killed processes left of their
    writes; with `overwrite` all that is there, `run.json` last, so that a crash leaves
    an output that can be resumed or overwritten again.

    Returns:
      What is left to do.

    Raises:
      UsageError: The output is of another job, or of no job.
      OSError: The storage fails.
    """
    if storage.is_local(job.output):
        for folder in ("", EMBEDDINGS, ERRORS):
            storage.remove_stale_partials(storage.join(job.output, folder))
    found = _read_json(job.output, RUN_JSON)
    if overwrite and found is not None:
        _remove_all(job.output)
        found = None
    good = _good_stems(job, found)
    if found is None:
        write_json(job.output, RUN_JSON, job.run_json())
    if storage.is_local(job.output):
        for table in ("", ERRORS, EMBEDDINGS):
            storage.remove_stale_partials(storage.join(job.output, table))
    return _plan(job, good=good, bad=stems(job.output, ERRORS))


def survey(job: Job, *, overwrite: bool) -> Plan:
    """Finds what `prepare` would leave to do; writes and removes nothing.

    Raises:
      UsageError: The output is of another job, or of no job.
      OSError: The storage fails.
    """
    found = _read_json(job.output, RUN_JSON)
    if overwrite and found is not None:
        return _plan(job, good=(), bad=())
    good = _good_stems(job, found)
    return _plan(job, good=good, bad=stems(job.output, ERRORS))


def _good_stems(job: Job, found: dict[str, object] | None) -> Strings:
    """The parts that are there, if they are of this job."""
    good = Strings(stems(job.output, EMBEDDINGS))
    if found is None and len(good):
        raise UsageError(
            f"--output {job.output} holds Parquet files but no run.json, so they are of"
            " no known run; name another folder"
        )
    if found is not None:
        _check_same(found, job)
    return good


def _plan(job: Job, *, good: Iterable[str], bad: Iterable[str]) -> Plan:
    return make_plan(
        job.shards,
        good_stems=good,
        bad_stems=bad,
        rows_per_part=job.cut.part,
        read_members=partial(read_members, job.output),
        read_resume_at=partial(read_resume_at, job.output),
    )


def _check_same(found: dict[str, object], job: Job) -> None:
    ours = json.loads(json.dumps(job.run_json()))
    differ = [
        f"{name} {_short(old)} there, {_short(new)} here"
        for name, old, new in _differences(found, ours)
        if name.split(".")[0] not in ("bitbeam", "identity", "checks")
    ]
    if differ:
        raise UsageError(
            f"--output {job.output} is of another job: {'; '.join(differ)}; name"
            " another folder, or --overwrite it"
        )


def _differences(
    old: object, new: object, name: str = ""
) -> Iterable[tuple[str, object, object]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            path = f"{name}.{key}" if name else key
            yield from _differences(old.get(key), new.get(key), path)
    elif old != new:
        yield name, old, new


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _remove_all(output: str) -> None:
    storage.remove(storage.join(output, SUMMARY_JSON))
    for table in (ERRORS, EMBEDDINGS):
        storage.remove_all(storage.join(output, table, "*.parquet"))
    storage.remove(storage.join(output, RUN_JSON))


def stems(output: str, table: str) -> Iterator[str]:
    """File names of one of the two tables, without suffix, as the listing comes in."""
    for found in storage.match(storage.join(output, table, "*.parquet")):
        yield found.path.rsplit("/", 1)[-1].removesuffix(".parquet")


def _read_json(output: str, name: str) -> dict[str, object] | None:
    uri = storage.join(output, name)
    if not storage.exists(uri):
        return None
    with storage.open_input(uri) as source:
        try:
            return json.loads(source.read())
        except ValueError as error:
            raise UsageError(f"{uri} is not bitbeam's: {error}") from error


def write_json(output: str, name: str, content: Mapping[str, object]) -> None:
    """Writes one of the output's own files."""
    text = json.dumps(content, indent=2) + "\n"
    storage.write_whole(storage.join(output, name), text.encode())


def record_checks(output: str, checks: Sequence[Mapping[str, object]]) -> None:
    """Adds to `run.json` what was measured of the models, once each.

    More than one where workers are of different kinds.
    """
    run = _read_json(output, RUN_JSON) or {}
    known = run.get("checks", [])
    assert isinstance(known, list)
    new = [check for check in checks if check not in known]
    if new:
        ordered = sorted([*known, *new], key=json.dumps)
        write_json(output, RUN_JSON, {**run, "checks": ordered})


def read_run_json(output: str) -> bytes:
    """The bytes of `run.json`."""
    with storage.open_input(storage.join(output, RUN_JSON)) as source:
        return source.read()


def run_digest(run_json: bytes) -> str:
    """What `summary.json` keeps of `run.json`, so that a change is noticed."""
    return hashlib.sha256(run_json).hexdigest()


def read_summary(output: str) -> dict[str, object] | None:
    """The totals that the graph wrote last."""
    return _read_json(output, SUMMARY_JSON)
