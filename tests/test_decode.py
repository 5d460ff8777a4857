import hashlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.utils.windowed_value import WindowedValue

from tests.photos import encode, photograph
from tests.pipelines import counters, distributions, run_on
from tests.test_image_limits import huge
from transforms import decode
from transforms.block import FAULT_FIELDS, Block, Fault, Place
from transforms.decode import DecodeImages, start_decoding
from transforms.image import Preprocess, decode_image

FORM = Preprocess(sizes=(32, 48), resize="bilinear")
GOOD = [encode(photograph(90, 60), kind) for kind in ("jpeg", "png", "webp")]


def block_of(
    images: Sequence[bytes | None],
    *,
    row: int = 0,
    faults: dict[int, Fault] | None = None,
) -> Block:
    """What ReadImages gives, but with its images in one piece."""
    count = range(len(images))
    bad = faults or {}
    columns = {
        "key": pa.array([f"image-{row + i}" for i in count], pa.string()),
        "image": pa.array(images, pa.large_binary()),
    }
    for field in FAULT_FIELDS:
        texts = [getattr(bad.get(i), field.name, None) for i in count]
        columns[field.name] = pa.array(texts, field.type)
    columns["kept:cls"] = pa.array([row + i for i in count], pa.int16())
    place = Place("/in/a.tar", "a-1-2", 0, row, False, False)
    return Block(place, pa.RecordBatch.from_pydict(columns))


def pixels(block: Block, row: int, size: int) -> np.ndarray:
    value = block.rows.column(f"pixels_{size}")[row].as_py()
    return np.frombuffer(value, np.uint8).reshape(size, size, 3)


def alone(data: bytes) -> tuple[list[np.ndarray], tuple[int, int]]:
    out = [np.empty((size, size, 3), np.uint8) for size in FORM.sizes]
    return out, decode_image(data, preprocess=FORM, out=out)


READ_FAULT = Fault("read", "truncated_shard", "ends at byte 12")
MIXED = block_of(
    [GOOD[0], None, GOOD[1], GOOD[0][:-9], huge("png"), GOOD[2], b"", b"text", GOOD[0]],
    row=7,
    faults={1: READ_FAULT},
)


def test_columns_are_as_documented():
    [out], _ = run_on(DecodeImages(FORM), [MIXED])
    assert out.rows.schema == pa.schema(
        [
            ("key", pa.string()),
            ("sha256", pa.binary(32)),
            ("bytes", pa.int64()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("pixels_32", pa.binary(32 * 32 * 3)),
            ("pixels_48", pa.binary(48 * 48 * 3)),
            ("stage", pa.string()),
            ("error", pa.string()),
            ("message", pa.string()),
            ("kept:cls", pa.int16()),
        ]
    )
    out.rows.validate(full=True)
    assert out.place == MIXED.place
    assert out.rows.column("key").equals(MIXED.rows.column("key"))
    assert out.rows.column("kept:cls").equals(MIXED.rows.column("kept:cls"))


def test_bytes_of_bad_rows_are_the_same_in_each_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Memory that has been used before.
    monkeypatch.setattr(decode.np, "empty", lambda shape, kind: np.full(shape, 7, kind))
    done = start_decoding(MIXED, preprocess=FORM, threads=1).result()
    for side in FORM.sizes:
        buffer = done.block.rows[f"pixels_{side}"].buffers()[1]
        squares = np.frombuffer(buffer, np.uint8).reshape(-1, side, side, 3)
        blank = [not square.any() for square in squares]
        assert blank == [False, True, False, True, True, False, True, True, False]


def test_bad_rows_cost_their_neighbours_nothing():
    [out], _ = run_on(DecodeImages(FORM, threads=3), [MIXED])
    for row, data in {0: GOOD[0], 2: GOOD[1], 5: GOOD[2], 8: GOOD[0]}.items():
        squares, size = alone(data)
        for square in squares:
            np.testing.assert_array_equal(pixels(out, row, len(square)), square)
        assert (out.rows["width"][row].as_py(), out.rows["height"][row].as_py()) == size
    assert out.rows["error"].to_pylist() == [
        None,
        "truncated_shard",
        None,
        "truncated_image",
        "too_large",
        None,
        "empty_image",
        "not_an_image",
        None,
    ]
    stages = [None, "read", None, "decode", "decode", None, "decode", "decode", None]
    assert out.rows["stage"].to_pylist() == stages
    assert "--max_pixels" in out.rows["message"][4].as_py()
    for name in ("width", "height", "pixels_32", "pixels_48"):
        nulls = [stage is not None for stage in stages]
        assert out.rows[name].is_null().to_pylist() == nulls


def test_the_encoded_image_is_described_also_in_rows_that_do_not_decode():
    [out], _ = run_on(DecodeImages(FORM), [MIXED])
    images = MIXED.rows["image"].to_pylist()
    digests = [data and hashlib.sha256(data).digest() for data in images]
    digests[6] = hashlib.sha256(b"").digest()
    assert out.rows["sha256"].to_pylist() == digests
    sizes = [None if data is None else len(data) for data in images]
    assert out.rows["bytes"].to_pylist() == sizes


def test_a_row_that_was_bad_stays_as_it_was():
    [out], _ = run_on(DecodeImages(FORM), [MIXED])
    row = out.rows.slice(1, 1).drop_columns(["key", "kept:cls"]).to_pylist()[0]
    fault = {"stage": "read", "error": "truncated_shard", "message": "ends at byte 12"}
    assert row == {**dict.fromkeys(row), **fault}


def test_what_lies_under_nulls_is_the_same_in_each_run():
    [first], _ = run_on(DecodeImages(FORM), [MIXED])
    data = first.rows["pixels_32"].buffers()[1]
    stored = np.frombuffer(data, np.uint8).reshape(9, -1)
    assert [int(row.any()) for row in stored] == [1, 0, 1, 0, 0, 1, 0, 0, 1]


def test_many_blocks_come_out_in_order():
    blocks = [block_of([GOOD[i % 3]] * (i % 5), row=10 * i) for i in range(40)]
    out, result = run_on(DecodeImages(FORM, threads=2), blocks)
    assert [block.place.row for block in out] == [10 * i for i in range(40)]
    assert [block.rows.num_rows for block in out] == [i % 5 for i in range(40)]
    assert counters(result)["images_decoded"] == 80


def test_rows_of_a_longer_batch_are_those_decoded():
    """What a filter or a coder makes may be a window on a longer array."""
    images = [GOOD[0], None, GOOD[1], None, GOOD[2], b"text"]
    whole = block_of(images)
    part = Block(whole.place, whole.rows.slice(1, 4))
    decoded = start_decoding(part, preprocess=FORM, threads=1).result().block.rows
    expected = [data and hashlib.sha256(data).digest() for data in images[1:5]]
    assert decoded["sha256"].to_pylist() == expected
    assert decoded["error"].is_valid().to_pylist() == [True, False, True, False]


def test_a_block_without_rows_passes():
    [out], _ = run_on(DecodeImages(FORM), [block_of([])])
    assert out.rows.num_rows == 0
    assert out.rows.schema.field("pixels_48").type == pa.binary(48 * 48 * 3)


def test_counted():
    _, result = run_on(DecodeImages(FORM), [MIXED, block_of(GOOD), block_of([b""])])
    sizes = [len(data) for data in MIXED.rows["image"].to_pylist() if data]
    assert counters(result) == {
        "images_decoded": 7,
        "bytes_encoded": sum(sizes) + sum(map(len, GOOD)),
        "bad": 5,
        "bad_truncated_image": 1,
        "bad_too_large": 1,
        "bad_empty_image": 2,
        "bad_not_an_image": 1,
    }
    assert 500 < distributions(result)["decode_usec"] < 5_000_000


def test_a_null_image_in_a_good_row_is_an_error_row():
    [out], _ = run_on(DecodeImages(FORM), [block_of([None, GOOD[0]])])
    assert out.rows["error"].to_pylist() == ["empty_image", None]
    assert out.rows["sha256"][0].as_py() is None


def test_the_images_of_one_block_are_decoded_by_several_threads(monkeypatch):
    barrier = threading.Barrier(3, timeout=30)

    def meet(data, *, preprocess, out):
        barrier.wait()
        return decode_image(data, preprocess=preprocess, out=out)

    monkeypatch.setattr(decode, "decode_image", meet)
    block = block_of([GOOD[0]] * 6)
    start_decoding(block, preprocess=FORM, threads=3).result(timeout=60)


def test_the_next_block_is_begun_before_the_first_is_taken(monkeypatch):
    begun = threading.Semaphore(0)

    def note(data, *, preprocess, out):
        begun.release()
        return decode_image(data, preprocess=preprocess, out=out)

    monkeypatch.setattr(decode, "decode_image", note)
    step = decode._DecodeBlocks(FORM, 1)
    step.start_bundle()
    first = list(step.process(block_of([GOOD[0]] * 2)))
    second = list(step.process(block_of([GOOD[0]] * 2, row=2)))
    for _ in range(4):
        assert begun.acquire(timeout=30)
    rest = list(step.finish_bundle())
    assert all(isinstance(value, WindowedValue) for value in rest)
    out = first + second + [value.value for value in rest]
    assert [block.place.row for block in out] == [0, 2]


def test_what_is_not_the_images_fault_fails_the_bundle(monkeypatch):
    def broken(data, *, preprocess, out):
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(decode, "decode_image", broken)
    future = start_decoding(block_of(GOOD), preprocess=FORM, threads=2)
    with pytest.raises(ZeroDivisionError, match="a bug of ours"):
        future.result(timeout=60)
    monkeypatch.undo()
    # The threads live on.
    future = start_decoding(block_of(GOOD), preprocess=FORM, threads=2)
    assert future.result(timeout=60).images == 3


def test_a_new_bundle_drops_what_a_failed_one_left(monkeypatch):
    gate, decoded = threading.Event(), []

    def wait(data, *, preprocess, out):
        gate.wait(30)
        decoded.append(data)
        return decode_image(data, preprocess=preprocess, out=out)

    monkeypatch.setattr(decode, "decode_image", wait)
    step = decode._DecodeBlocks(FORM, 1)
    step.start_bundle()
    assert list(step.process(block_of([GOOD[0]] * 50))) == []
    step.start_bundle()
    gate.set()
    list(step.process(block_of([GOOD[1]], row=50)))
    [left] = [value.value.place.row for value in step.finish_bundle()] or [50]
    assert left == 50
    assert decoded.count(GOOD[0]) <= 1


def test_pickles_small_and_works_after():
    transform = pickle.loads(pickle.dumps(DecodeImages(FORM, threads=2)))
    run_on(transform, [MIXED])
    assert len(pickle.dumps(decode._DecodeBlocks(FORM, 2))) < 1000


def test_fewer_than_one_thread_is_refused():
    with pytest.raises(ValueError, match="at least one thread: 0"):
        DecodeImages(FORM, threads=0)


def test_queued_images_do_not_hold_the_process():
    program = (
        "from tests.test_decode import GOOD, FORM, block_of\n"
        "from transforms.decode import start_decoding\n"
        "block = block_of([GOOD[0]] * 20_000)\n"
        "future = start_decoding(block, preprocess=FORM, threads=2)\n"
        "import time; began = time.time()\n"
        "import atexit; atexit.register(lambda: print(time.time() - began))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert float(ran.stdout) < 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own():
    start_decoding(block_of(GOOD), preprocess=FORM, threads=2).result(timeout=60)
    child = os.fork()
    if child == 0:
        future = start_decoding(block_of(GOOD), preprocess=FORM, threads=2)
        os._exit(0 if future.result(timeout=60).images == 3 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_pixels_are_not_copied_into_arrow(monkeypatch):
    made = []
    original = decode.array_of

    def note(kind, values, *, valid):
        if kind == pa.binary(32 * 32 * 3):
            made.append(values)
        return original(kind, values, valid=valid)

    monkeypatch.setattr(decode, "array_of", note)
    block = start_decoding(block_of(GOOD), preprocess=FORM, threads=1).result().block
    assert block.rows["pixels_32"].buffers()[1].address == made[0].ctypes.data


def test_survives_the_coder():
    [out], _ = run_on(DecodeImages(FORM), [MIXED])
    coder = beam.coders.registry.get_coder(Block)
    assert coder.decode(coder.encode(out)).rows.equals(out.rows)
