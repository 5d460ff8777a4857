"""References to shards and parts in the graph: what goes in comes out, and is small."""

import random
from pathlib import Path

import apache_beam as beam
import pytest

from pipeline import graph
from pipeline.job import plan_job
from pipeline.options import InputOptions, ModelOptions, OutputOptions, RunOptions
from pipeline.plan import Plan
from tests import pipelines, tables
from transforms import File, Shard, UnpackShards, UnpackStems, pack_shards, pack_stems
from transforms.packed import unpack_shards, unpack_stems


def _tar(uri: str, number: int = 0) -> Shard:
    return Shard(uri, "tar", (File(uri, 1000 + number, 1.7e9 + number / 1000),))


def _unpacked(chunks: tuple[bytes, ...]) -> list[Shard]:
    return [shard for chunk in chunks for shard in unpack_shards(chunk)]


ODD = (
    [],
    [_tar("a.tar")],
    [_tar("a.tar"), _tar("b.tar"), _tar("/b.tar"), _tar("c.tar"), _tar("/d.tar")],
    [_tar("/data/x/a.tar"), _tar("/data/y/a.tar"), _tar("gs://b/x/a.tar")],
    [_tar("/data/caf\udce9.tar"), _tar('/data/"\n\0\u2028.tar')],
    [Shard("/a#0", "files", tuple(File(f"/a/{n}.jpg", n, -n / 7) for n in range(9)))],
    [Shard("/a.tar", "tar", (File("/a.tar", 0, 0.0),), frozenset({24, 0}), 12, 5120)],
    [Shard("/none", "files", ()), _tar("/data/a.tar"), Shard("/no", "files", ())],
)


@pytest.mark.parametrize("shards", ODD, ids=range(len(ODD)))
def test_shards_come_out_as_they_went_in(shards: list[Shard]) -> None:
    assert _unpacked(pack_shards(shards)) == shards


def _many(count: int) -> list[Shard]:
    chance, updated = random.Random(1), 1.7e9
    made = []
    for number in range(count):
        updated += chance.randrange(1, 200) / 1000
        uri = f"gs://bucket/data/{number // 1000:04d}/{number:08d}.tar"
        file = File(uri, chance.randrange(20_000, 200_000), updated)
        made.append(Shard(uri, "tar", (file,)))
    return made


def test_many_shards_are_chunks_of_a_few_bytes_each() -> None:
    shards = _many(10_000)
    chunks = pack_shards(shards)
    assert len(chunks) == 3
    assert sum(map(len, chunks)) < 110_000
    assert _unpacked(chunks) == shards


def test_names_of_parts_come_out_as_they_went_in() -> None:
    stems = [f"{shard.name}-0000000000-last" for shard in _many(9_000)]
    chunks = pack_stems(stems)
    assert len(chunks) == 3
    assert [stem for chunk in chunks for stem in unpack_stems(chunk)] == stems
    assert pack_stems([]) == ()


@pytest.mark.parametrize(
    "elements", [_many(5_000), ["a", "b"]], ids=["shards", "stems"]
)
def test_workers_unpack_them(elements: list[object]) -> None:
    step = (
        UnpackShards(pack_shards(elements))
        if isinstance(elements[0], Shard)
        else UnpackStems(pack_stems(elements))
    )
    found, _ = pipelines.run_on(beam.ParDo(step), [b""])
    assert found == elements


def test_the_graph_holds_them_once(small_source: Path) -> None:
    shards = tuple(_many(10_000))
    job = plan_job(
        RunOptions(
            inputs=InputOptions((str(small_source),)),
            model=ModelOptions(tables.MODEL[1], batch_size=4),
            output=OutputOptions("/nowhere", rows_per_part=8),
        )
    )
    pipeline = beam.Pipeline(runner="FnApiRunner")
    graph.build(pipeline, job, Plan(shards, done=(), stale=(), elsewhere=0))
    # A base64 of the chunks, and about 60 KB for the steps. Once it was 2.5 MB.
    assert len(pipeline.to_runner_api().SerializeToString()) < 200_000
