"""The output's own files: run.json, summary.json, and which parts are there."""

import json
from collections.abc import Iterable
from dataclasses import replace

from transforms import EMBEDDINGS, ERRORS, Shard, storage

from .errors import UsageError
from .job import Job

RUN_JSON, SUMMARY_JSON = "run.json", "summary.json"


def prepare(job: Job, *, overwrite: bool) -> frozenset[str]:
    """Makes the output ready for a job: its own, or empty.

    Writes `run.json` where there is none. With `overwrite`, removes what is there
    first, `run.json` last, so that a crash leaves an output that can be resumed or
    overwritten again.

    Returns:
      Stems of the parts that are there.

    Raises:
      UsageError: The output is of another job, or of no job.
    """
    found = _read_json(job.output, RUN_JSON)
    if overwrite and found is not None:
        _remove_all(job.output)
        found = None
    stems = frozenset(_stems(job.output, EMBEDDINGS))
    if found is None and stems:
        raise UsageError(
            f"--output {job.output} holds Parquet files but no run.json, so they are of"
            " no known run; name another folder"
        )
    if found is None:
        storage.write_whole(storage.join(job.output, RUN_JSON), job.run_json())
    else:
        _check_same(found, job)
    return stems


def _check_same(found: dict[str, object], job: Job) -> None:
    ours = json.loads(job.run_json())
    differ = [
        f"{name} {_short(old)} there, {_short(new)} here"
        for name, old, new in _differences(found, ours)
        if name not in ("bitbeam", "identity")
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


def _stems(output: str, table: str) -> Iterable[str]:
    for uri in storage.list_uris(storage.join(output, table, "*.parquet")):
        yield uri.rsplit("/", 1)[-1].removesuffix(".parquet")


def _read_json(output: str, name: str) -> dict[str, object] | None:
    uri = storage.join(output, name)
    if not storage.exists(uri):
        return None
    with storage.open_input(uri) as source:
        try:
            return json.loads(source.read())
        except ValueError as error:
            raise UsageError(f"{uri} is not bitbeam's: {error}") from error


def read_summary(output: str) -> dict[str, object] | None:
    """The totals that the graph wrote last."""
    return _read_json(output, SUMMARY_JSON)


def without_done(
    shards: Iterable[Shard], stems: frozenset[str], *, rows_per_part: int
) -> list[Shard]:
    """The shards that still need work, each told which of its parts do not."""
    firsts: dict[str, set[int]] = {}
    lasts: dict[str, int] = {}
    for stem in stems:
        whole = stem.removesuffix("-last")
        name, _, first = whole.rpartition("-")
        firsts.setdefault(name, set()).add(int(first))
        if whole != stem:
            lasts[name] = int(first)
    left = []
    for shard in shards:
        done = frozenset(firsts.get(shard.name, ()))
        last = lasts.get(shard.name)
        if last is None or not done.issuperset(range(0, last, rows_per_part)):
            left.append(replace(shard, done_parts=done))
    return left
