"""The line that says what bound a run, and runs that one step holds up."""

import functools
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline import bottleneck as bottlenecks
from pipeline import graph
from pipeline.bottleneck import bottleneck
from pipeline.cli import main
from tests import photos, shards
from transforms import decode, part, read
from transforms.bit import ModelSpec, Predictions

SECOND = 1_000_000


def _sums(**seconds: float) -> dict[str, int]:
    """Of ten seconds on two cores, where all steps are idle but for what is said."""
    sums = {"active": 10.0, "decode_capacity": 20.0, "decode_threads": 20.0}
    sums |= {f"{step}_capacity": 10.0 for step in ("read", "predict", "write")}
    sums |= {f"{step}": 0.1 for step in ("read", "decode", "predict", "write")}
    return {f"{name}_usec": int(s * SECOND) for name, s in (sums | seconds).items()}


def test_the_line_has_the_share_of_each_step() -> None:
    sums = _sums(read=0.3, decode=2.2, predict=9.6, write=0.1)
    line = "read 3%, decode 11%, model 96% busy, write 1%: bound by the model"
    assert bottleneck(sums, seconds=12) == line


@pytest.mark.parametrize(
    ("sums", "bound"),
    [
        (_sums(read=9.8, predict=3), "reading"),
        (_sums(decode=17, decode_clock=19, predict=4), "decoding"),
        (_sums(write=7, predict=6), "writing"),
        (_sums(decode=4, decode_clock=8, predict=8), "the model"),
        # All wait for each other.
        (_sums(decode=8, decode_clock=8.5, predict=4.9), "none of them"),
        # Nothing starves a model that is always busy, whatever else is.
        (_sums(read=9.9, predict=9.6), "the model"),
    ],
)
def test_the_busiest_step_binds(sums: dict[str, int], bound: str) -> None:
    assert bottleneck(sums, seconds=12).endswith(f": bound by {bound}")


@pytest.mark.parametrize(
    ("clock", "predict", "bound"),
    [
        # Of the cores it gets half, of the model, or of another program.
        (19.5, 8.0, "decoding"),
        (19.5, 3.0, "decoding"),
        # It waits for the model, and for cores.
        (15.0, 8.0, "the model"),
        (19.5, 9.7, "the model"),
    ],
)
def test_a_decoder_that_waits_for_a_core_is_told_from_one_that_waits_for_the_model(
    clock: float, predict: float, bound: str
) -> None:
    sums = _sums(decode=10.0, decode_clock=clock, predict=predict)
    assert bottleneck(sums, seconds=12).endswith(f": bound by {bound}")


def test_a_run_that_is_mostly_start_up_says_so() -> None:
    sums = _sums(predict=9.9)
    assert bottleneck(sums, seconds=19).endswith(": bound by the model")
    assert bottleneck(sums, seconds=21).endswith(": bound by starting up")


def test_many_workers_have_the_shares_of_one() -> None:
    one = _sums(read=0.3, decode=2.2, predict=9.6, write=0.1)
    many = {name: 50 * value for name, value in one.items()}
    assert bottleneck(many, seconds=12) == bottleneck(one, seconds=12)


def test_two_streams_are_as_busy_as_both_are() -> None:
    sums = _sums(predict=12, predict_capacity=20, decode=1)
    assert "model 60% busy" in bottleneck(sums, seconds=12)


@pytest.mark.parametrize("sums", [{}, {"images_written": 0}, {"active_usec": SECOND}])
def test_a_run_with_little_to_do_says_nothing(sums: dict[str, int]) -> None:
    assert bottleneck(sums, seconds=12) == ""


def test_a_share_is_never_above_all() -> None:
    # The bundle that told the capacity has failed; its blocks went on.
    sums = _sums(predict=9.9, predict_capacity=2)
    assert "model 100% busy" in bottleneck(sums, seconds=12)


class _Model:
    """Predicts nothing, after a pause."""

    info = SimpleNamespace(
        **{"name": "m", "embedding_size": 8, "image_size": 64, "classes": 0},
        **{"labels": None},
    )
    batch_size = 4
    streams = 1

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self.checks: dict[str, Any] = {}

    def __call__(self, images: np.ndarray) -> Predictions:
        time.sleep(self._pause)
        return Predictions(np.ones((len(images), 8), np.float32), None, None)


def _load(spec: ModelSpec, *, pause: float = 0.0) -> _Model:
    return _Model(pause)


def _slow_model(monkeypatch: pytest.MonkeyPatch) -> None:
    load = functools.partial(_load, pause=0.05)
    monkeypatch.setattr(graph, "build", functools.partial(graph.build, load=load))


def _slow_source(monkeypatch: pytest.MonkeyPatch) -> None:
    records = read.read_records

    def slowly(*arguments: Any) -> Iterator[Any]:
        for record in records(*arguments):
            time.sleep(0.02)
            yield record

    monkeypatch.setattr(read, "read_records", slowly)


def _slow_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    decode_image, much = decode.decode_image, bytes(1 << 20)

    def slowly(data: bytes, **arguments: Any) -> tuple[int, int]:
        began = time.thread_time()
        while time.thread_time() - began < 0.02:
            hashlib.sha256(much)
        return decode_image(data, **arguments)

    monkeypatch.setattr(decode, "decode_image", slowly)


def _slow_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole = part.storage.write_whole

    def slowly(uri: str, content: bytes) -> None:
        if uri.endswith(".parquet"):
            time.sleep(0.3)
        write_whole(uri, content)

    monkeypatch.setattr(part.storage, "write_whole", slowly)


@pytest.mark.parametrize(
    ("slow", "bound"),
    [
        (_slow_model, "the model"),
        (_slow_source, "reading"),
        (_slow_decoder, "decoding"),
        (_slow_writer, "writing"),
    ],
)
def test_the_last_line_names_the_step_that_is_slow(
    slow: Callable[[pytest.MonkeyPatch], None],
    bound: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bottlenecks, "_LEAST_USEC", 1)
    monkeypatch.setattr(graph, "build", functools.partial(graph.build, load=_load))
    slow(monkeypatch)
    image = photos.encode(photos.photograph(96, 72), "jpeg")
    samples = [(f"{number:04d}", {"jpg": image}) for number in range(64)]
    tar = shards.write_tar(tmp_path / "in.tar", samples)
    options = ("--image_size", "64", "--batch_size", "4", "--rows_per_part", "16")
    model = ("--model", "random:R14x1:1000")
    output = str(tmp_path / "out")
    assert main(["run", *model, *options, "--input", str(tar), "--output", output]) == 0
    [done, last] = capsys.readouterr().out.splitlines()
    assert done.startswith("bitbeam: done: 64 images in ")
    assert last.startswith("bitbeam: read ")
    assert last.rpartition(": bound by ")[2] == bound, (done, last)
