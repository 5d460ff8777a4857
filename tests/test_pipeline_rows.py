"""The benchmarks of the pipeline measure what they say."""

import hashlib
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import ideal, inputs, job, pipelines
from benchmarks.machine import Machine
from benchmarks.settings import Settings
from benchmarks.side import Lap
from tests import outputs
from transforms import image
from transforms.bit import ModelSpec

MODEL = ("--model", "random:R14x1:1000", "--image_size", "64")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in") / "shards"
    inputs.write_shards(folder, images=12)
    return folder


def _laps(**speeds: float) -> dict[str, Lap]:
    laps = {name.replace("_", " "): Lap(1.0, speed) for name, speed in speeds.items()}
    # Of a lap that was slow as it had to wait, and whose core-seconds were not.
    return laps | {"decoder alone": Lap(9.0, 1.0, {"core_s": 0.002})}


@pytest.mark.parametrize(
    ("cores", "gpu", "speed", "ideal_speed"),
    [
        # 2 cores: an image takes the model 0.04 core-seconds, and the decoder 0.002.
        (2, False, 50.0, 2 / 0.042),
        # Decoding on 4 cores gives 2,000 a second.
        (4, True, 500.0, 500.0),
        (4, True, 3000.0, 2000.0),
    ],
)
def test_the_ideal_is_the_sum_on_a_cpu_and_the_slower_on_a_gpu(
    cores: int, gpu: bool, speed: float, ideal_speed: float
) -> None:
    figure = pipelines.over_ideal(cores=cores, gpu=gpu)
    laps = _laps(ours=ideal_speed * 0.9, model_alone=speed)
    assert figure(laps) == pytest.approx(0.9)


def test_the_exponent_is_that_of_the_power_law() -> None:
    sizes = (2_000, 20_000, 100_000)
    laps = {str(n): Lap(3e-4 * n**1.07, n) for n in sizes}
    assert pipelines.exponent(laps) == pytest.approx(1.07)
    laps = {str(n): Lap(5 + 3e-4 * n, n) for n in sizes}
    assert pipelines.exponent(laps) < 0.9


def test_more_images_are_more_names_of_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "IMAGES_A_SHARD", 12)
    inputs.write_shards(tmp_path / "in", images=41)
    files = sorted((tmp_path / "in").iterdir())
    assert [file.name for file in files] == [
        *("0000.tar", "0001.tar", "0002.tar", "rest.tar")
    ]
    assert len({file.stat().st_ino for file in files}) == 2
    assert [len(ideal.read_tar(file)) for file in files] == [12, 12, 12, 5]


def test_the_bare_loop_decodes_every_image_on_its_threads(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = ideal.read_tar(shards / "rest.tar")
    both = threading.Barrier(2, timeout=10)
    seen: list[bytes] = []

    def decoded(data: bytes, **others: object) -> None:
        seen.append(hashlib.sha256(data).digest())
        both.wait()

    monkeypatch.setattr(image, "decode_image", decoded)
    ideal.decode(images, threads=2, side=64)
    assert sorted(seen) == sorted(hashlib.sha256(data).digest() for data in images)


def test_what_a_bare_loop_cannot_decode_is_an_error() -> None:
    with pytest.raises(image.DecodeError):
        ideal.decode([b"no image"], threads=2, side=64)


def test_an_instant_model_gives_other_rows_each_time() -> None:
    model = job.InstantModel(ModelSpec("random:R14x1:1000", image_size=64))
    images = np.zeros((16, 64, 64, 3), np.uint8)
    first, second = model(images), model(images)
    assert first.embeddings.shape == (16, 2048)
    assert first.scores is not None and first.scores.shape == (16, 10)
    assert (np.diff(first.scores) <= 0).all()
    assert not (first.embeddings == second.embeddings).any()
    for _ in range(1000):
        assert len(model(images).embeddings) == 16


def test_a_job_is_timed_without_its_start(shards: Path, tmp_path: Path) -> None:
    options = ["--input", str(shards), *MODEL]
    lap = job.run(options, table=tmp_path, instant=True, tune="rule")
    assert outputs.embeddings(tmp_path).num_rows == 12
    assert lap["units"] == 12
    # At least a bundle's time, and less than the whole, which has the start too.
    assert 0.001 < lap["seconds"] < 30 and lap["start_s"] > 0.01
    assert 0 < lap["core_s"] < 1


def test_stock_beam_does_the_same_job(shards: Path, tmp_path: Path) -> None:
    from benchmarks.peers import saved_model, stock_beam

    model, theirs, ours = tmp_path / "model", tmp_path / "theirs", tmp_path / "ours"
    saved_model.write("random:R14x1:1000", model)
    theirs.mkdir()
    stock_beam.run(shards / "rest.tar", model=model, table=theirs, side=64)
    options = [
        *("--input", str(shards), "--model", str(model)),
        *("--image_size", "64", "--precision", "float32"),
    ]
    job.run(options, table=ours, instant=False, tune="rule")
    expected = outputs.embeddings(ours).sort_by("key")
    found = pq.read_table(theirs).sort_by("key")
    assert found["key"].to_pylist() == expected["key"].to_pylist()
    one = np.array(found["embedding"].to_pylist())
    two = np.array(expected["embedding"].to_pylist())
    # Random weights make much of the decoders' different rounding.
    apart = np.linalg.norm(one[:, None] - two[None], axis=2)
    assert apart.argmin(axis=1).tolist() == list(range(12))
    assert apart.diagonal().max() < 0.2 * np.linalg.norm(two, axis=1).min()
    assert {len(row) for row in found["scores"].to_pylist()} == {10}


def test_all_laps_are_of_one_size(tmp_path: Path) -> None:
    contests = pipelines.contests(Settings(Machine.here(), tmp_path))
    names = [contest.name for contest in contests]
    assert names == [
        *("pipeline", "pipeline-float32", "pipeline-instant", "stock-beam"),
        *("memory", "memory-parts", "linear", "help"),
    ]
    assert all(contest.lap_s == 0 for contest in contests)
