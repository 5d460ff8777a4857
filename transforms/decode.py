"""DecodeImages: blocks of encoded images to blocks of pixels, by a pool of threads."""

import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from queue import SimpleQueue

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from transforms import metrics, shift
from transforms.ahead import InOrder
from transforms.bit import machine
from transforms.block import FAULT_FIELDS, Block, Fault
from transforms.image import DecodeError, Preprocess, decode_image
from transforms.resize import Pixels
from transforms.views import array_of, validity_of, values_of

PIXELS = "pixels_"
"""Prefix of the columns of pixels."""

_DIGEST = hashlib.sha256().digest_size

_AHEAD_BYTES = 12 << 20
"""Of pixels and encoded images, for each thread, in blocks behind the one waited for.
The thread of the bundle does all of a runner's work, and at times gets no core or is a
while about a block: meanwhile the pool must not run dry."""


def pixels_column(size: int) -> str:
    """Name of the column that holds the `size` x `size` pixels."""
    return f"{PIXELS}{size}"


class DecodeImages(beam.PTransform):
    """Decodes and resizes the images of blocks.

    In: blocks with the columns `key` string, `image` binary_view or large_binary,
    `stage`, `error`, `message` string (null in a good row), and others, which pass.

    Out: the same blocks in the same order, `image` replaced by `sha256` (32 bytes),
    `bytes` int64, both of the encoded image; `width`, `height` int32, as encoded after
    EXIF orientation; and for each size `pixels_<size>`, uint8 RGB rows of
    size * size * 3 bytes. Width, height and pixels are null in a bad row.

    A row that was bad stays as it was. One that does not decode gets the stage
    `decode`; its neighbours are not touched.

    Counted: `images_decoded`, `bytes_encoded`, `bad` and `bad_<error>`, and the
    distributions `decode_usec`, processor time of a block in all threads, of what the
    cores had, `decode_capacity_usec`; and `decode_clock_usec`, the threads' time on the
    clock, of all that they had, `decode_threads_usec`.
    """

    def __init__(self, preprocess: Preprocess, *, threads: int | None = None) -> None:
        """Args:
        preprocess: How an image becomes pixels.
        threads: Of the pool, which all bundles of a process share; by default one for
          each core.

        Raises:
          ValueError: Fewer than one thread.
        """
        super().__init__()
        if threads is not None and threads < 1:
            raise ValueError(f"decoding needs at least one thread: {threads}")
        self._preprocess = preprocess
        self._threads = threads

    def expand(self, blocks: beam.PCollection[Block]) -> beam.PCollection[Block]:
        return blocks | beam.ParDo(_DecodeBlocks(self._preprocess, self._threads))


class _DecodeBlocks(beam.DoFn):
    """Decodes ahead of the steps that follow; see DecodeImages."""

    def __init__(self, preprocess: Preprocess, threads: int | None) -> None:
        self._preprocess = preprocess
        self._threads = threads
        self._ahead: InOrder[_Decoded] | None = None

    def start_bundle(self) -> None:
        self.teardown()  # of a bundle that failed
        self._pool_size = self._threads or machine.cores()
        self._ahead = InOrder(_AHEAD_BYTES * self._pool_size)
        shift.begin("decode", self)

    def process(self, block: Block) -> Iterator[Block]:
        assert self._ahead is not None
        future = start_decoding(
            block, preprocess=self._preprocess, threads=self._pool_size
        )
        pixels = sum(3 * size**2 for size in self._preprocess.sizes)
        weight = block.nbytes + block.rows.num_rows * pixels
        for decoded in self._ahead.add(future, weight=weight):
            yield decoded.counted()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        assert self._ahead is not None
        for decoded in self._ahead.drain():
            yield GlobalWindows.windowed_value(decoded.counted())
        usec = shift.end("decode", self).usec
        cores = min(self._pool_size, machine.cores())
        metrics.observe_usec("decode_capacity_usec", usec * cores)
        metrics.observe_usec("decode_threads_usec", usec * self._pool_size)

    def teardown(self) -> None:
        shift.drop("decode", self)
        if self._ahead is not None:
            self._ahead.cancel()


@dataclass(frozen=True)
class _Decoded:
    """A decoded block and what is to be counted for it, on the bundle's thread.

    Attributes:
      block: The result.
      images: How many of its rows were decoded.
      encoded: Bytes of all encoded images.
      bad: How many rows failed here, by error.
      usec: Processor time of all threads.
      clock_usec: Their time on the clock.
    """

    block: Block
    images: int
    encoded: int
    bad: Counter[str]
    usec: int
    clock_usec: int

    def counted(self) -> Block:
        metrics.count("images_decoded", self.images)
        metrics.count("bytes_encoded", self.encoded)
        for error, rows in self.bad.items():
            metrics.count("bad", rows)
            metrics.count(f"bad_{error}", rows)
        metrics.observe_usec("decode_usec", self.usec)
        metrics.observe_usec("decode_clock_usec", self.clock_usec)
        return self.block


def start_decoding(
    block: Block, *, preprocess: Preprocess, threads: int
) -> Future[_Decoded]:
    """Starts to decode a block in the process's pool of that many threads.

    Cancelling the future stops at the next image.
    """
    work = _Work(block, preprocess=preprocess)
    runs = min(threads, block.rows.num_rows)
    work.expect(runs)
    pool = _pool(threads)
    for _ in range(runs):
        pool.submit(work.run)
    return work.future


class _Work:
    """A block being decoded by several threads, each taking the next row."""

    def __init__(self, block: Block, *, preprocess: Preprocess) -> None:
        count = block.rows.num_rows
        self.future: Future[_Decoded] = Future()
        self._block = block
        self._images = values_of(block.rows.column("image"))
        self._preprocess = preprocess
        self._next = iter(range(count))
        self._lock = threading.Lock()
        self._running = 0
        self._nanoseconds = self._clock_nanoseconds = 0
        self._failure: BaseException | None = None
        self._faults = _faults(block.rows)
        self._old = frozenset(self._faults)
        self._digests = np.zeros((count, _DIGEST), np.uint8)
        self._lengths = np.zeros(count, np.int64)
        self._widths, self._heights = np.zeros((2, count), np.int32)
        self._pixels = [
            np.empty((count, size, size, 3), np.uint8) for size in preprocess.sizes
        ]

    def expect(self, runs: int) -> None:
        """Says how many calls of `run` will come; with none the block is done."""
        self._running = runs
        if not runs:
            self._settle()

    def run(self) -> None:
        """Decodes rows until there is none; the last call to end gives the result."""
        began, began_at = time.thread_time_ns(), time.perf_counter_ns()
        try:
            for row in self._next:
                if self.future.cancelled() or self._failure is not None:
                    break
                self._decode(row)
        except BaseException as failure:  # handed to who waits, and raised there
            self._failure = failure
        with self._lock:
            self._nanoseconds += time.thread_time_ns() - began
            self._clock_nanoseconds += time.perf_counter_ns() - began_at
            self._running -= 1
            last = not self._running
        if last:
            self._settle()

    def _settle(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            if self._failure is not None:
                raise self._failure
            self.future.set_result(self._decoded())
        except BaseException as failure:  # likewise
            self.future.set_exception(failure)

    def _decode(self, row: int) -> None:
        data = self._images[row]
        if data is not None:
            # Before the copy below, which holds the GIL: in the cache it is short.
            self._digests[row].data[:] = hashlib.sha256(data).digest()
            self._lengths[row] = len(data)
        out = [pixels[row] for pixels in self._pixels]
        if row in self._old:
            _blank(out)
            return
        try:
            self._widths[row], self._heights[row] = decode_image(
                bytes(data or b""), preprocess=self._preprocess, out=out
            )
        except DecodeError as bad:
            self._faults[row] = Fault("decode", bad.error, bad.message)
            _blank(out)

    def _decoded(self) -> _Decoded:
        new = [self._faults[row] for row in self._faults.keys() - self._old]
        return _Decoded(
            block=Block(self._block.place, self._rows()),
            images=self._block.rows.num_rows - len(self._faults),
            encoded=int(self._lengths.sum()),
            bad=Counter(fault.error for fault in new),
            usec=self._nanoseconds // 1000,
            clock_usec=self._clock_nanoseconds // 1000,
        )

    def _rows(self) -> pa.RecordBatch:
        rows = self._block.rows
        good = np.ones(rows.num_rows, np.bool_)
        good[list(self._faults)] = False
        there = validity_of([data is not None for data in self._images])
        decoded = validity_of(good)
        columns = {
            "key": rows.column("key"),
            "sha256": array_of(pa.binary(_DIGEST), self._digests, valid=there),
            "bytes": array_of(pa.int64(), self._lengths, valid=there),
            "width": array_of(pa.int32(), self._widths, valid=decoded),
            "height": array_of(pa.int32(), self._heights, valid=decoded),
        }
        for size, pixels in zip(self._preprocess.sizes, self._pixels, strict=True):
            kind = pa.binary(3 * size**2)
            columns[pixels_column(size)] = array_of(kind, pixels, valid=decoded)
        columns.update(self._fault_columns())
        others = [name for name in rows.schema.names if name not in (*columns, "image")]
        columns.update((name, rows.column(name)) for name in others)
        return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))

    def _fault_columns(self) -> dict[str, pa.Array]:
        rows = self._block.rows
        if len(self._faults) == len(self._old):  # none is new
            return {field.name: rows.column(field.name) for field in FAULT_FIELDS}
        faults = [self._faults.get(row) for row in range(rows.num_rows)]
        return {
            field.name: pa.array(
                [fault and getattr(fault, field.name) for fault in faults], field.type
            )
            for field in FAULT_FIELDS
        }


def _blank(out: list[Pixels]) -> None:
    """Makes the pixels of a bad row the same in each run."""
    for square in out:
        square[...] = 0


def _faults(rows: pa.RecordBatch) -> dict[int, Fault]:
    """The rows that are bad already."""
    if rows.column("stage").null_count == rows.num_rows:
        return {}
    columns = [rows.column(field.name).to_pylist() for field in FAULT_FIELDS]
    return {
        row: Fault(*fault)
        for row, fault in enumerate(zip(*columns, strict=True))
        if fault[0] is not None
    }


class _Pool:
    """Daemon threads that work off one queue.

    A ThreadPoolExecutor's threads finish what is queued before the process may exit;
    after ^C that would be hundreds of images.
    """

    def __init__(self, threads: int) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        for number in range(threads):
            threading.Thread(
                target=self._work, name=f"decode-{number}", daemon=True
            ).start()

    def submit(self, job: Callable[[], None]) -> None:
        """Queues a job, which must not raise."""
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            self._jobs.get()()


@cache
def _pool(threads: int) -> _Pool:
    """One for each process and number of threads."""
    return _Pool(threads)


# A forked process has the cache, but not the threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
