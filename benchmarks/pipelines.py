"""The rows about the pipeline."""

import math
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .contest import Bar, Contest, Figure, Subject
from .inputs import IMAGES_A_SHARD
from .settings import Settings
from .side import ROOT, Lap, Once, Side, SideError, python

_STEADY = (
    "seconds are of the steady part, from the opening of the first shard until the "
    "table is complete; start_s, not in them, is imports, planning, the loading of the "
    "model and its first step"
)
_ANY = 0
"""Cores of a bar that holds on any machine."""

_MODEL, _DECODER = "model alone", "decoder alone"


def contests(settings: Settings) -> list[Contest]:
    """All of them."""
    rows = _Rows(settings)
    return [
        rows.against_ideal("pipeline", rows.best_precision, images=4_000),
        rows.against_ideal("pipeline-float32", "float32", images=1_000),
        rows.against_loop(),
        rows.against_stock_beam(),
        rows.memory("memory", why="all options as they are"),
        rows.memory(
            "memory-parts",
            *("--rows_per_part", 512),
            why="in parts of 512, so that the few fill some too",
        ),
        rows.linear(),
        help_time(),
    ]


def help_time() -> Contest:
    """How long the command line takes to say what there is."""
    command = (sys.executable, "-m", "pipeline", "--help")
    return Contest(
        "help",
        "bitbeam --help",
        "seconds of the whole process",
        subject=Subject("command"),
        ours=(Once("bitbeam --help", command),),
        bar=Bar(0.7, at_least=False, cores=_ANY),
        shown="seconds",
        unit="s",
        lap_s=0,
    )


@dataclass(frozen=True)
class _Rows:
    """The rows that need input; all laps of a row are of one size."""

    settings: Settings

    @property
    def best_precision(self) -> str:
        """The fastest; `auto` leaves a CPU without matrix units in float32."""
        machine = self.settings.machine
        dots = {"amx_bf16", "avx512_bf16"}.intersection(machine.flags)
        return "bfloat16" if dots and not machine.gpu else "auto"

    def against_ideal(self, name: str, precision: str, *, images: int) -> Contest:
        """The pipeline beside the sum, or the slower, of its two halves.

        Of so many images that a lap takes half a minute: half a second is start and
        end, in which one half waits for the other.
        """
        images = self._images(images, gpu=20_000)
        model = self._model_alone(precision)
        decoder = self._decoder()
        gpu, cores = bool(self.settings.machine.gpu), self.settings.machine.cores
        ideal = (
            "the slower of the model and of the decoder on all cores"
            if gpu
            else "its core-seconds an image, the model's (its time alone, times the "
            "cores) and the decoder's (processor time on one thread) added, over the "
            "cores"
        )
        return Contest(
            name,
            f"pipeline, tar of {images:,} JPEGs of 500 x 375 to Parquet, {precision}",
            f"images/s of the pipeline over images/s of the ideal: {ideal}; {_STEADY}",
            subject=self._subject(precision),
            ours=(self._job(images, *self._options(precision), *self._tune),),
            others=(model, decoder),
            bar=Bar(0.95, cores=_ANY),
            figure=over_ideal(cores=cores, gpu=gpu),
            lap_s=0,
            rounds=self._rounds(5),
            prepare=partial(self._prepare, images, self._images(2_000)),
        )

    def against_loop(self) -> Contest:
        """The pipeline without a model beside its decoder in a bare loop.

        The loop is a process of its own in each round, as the job is, and as long: how
        fast a process decodes depends on where its memory lies, by up to a fifth, and a
        core that was idle is faster for the first seconds.
        """
        images, cores = self._images(20_000, gpu=50_000), self.settings.machine.cores
        return Contest(
            "pipeline-instant",
            f"pipeline of {images:,} JPEGs of 500 x 375 with an instant model",
            f"images/s of the pipeline over images/s of a loop of the same decoder on "
            f"the same {cores} threads, over the same {images:,} images, in memory, "
            f"that keeps nothing; {_STEADY}",
            subject=Subject("instant", "", str(self.settings.image_size)),
            ours=(self._instant(images),),
            others=(self._loop(images, threads=cores),),
            bar=Bar(0.85, cores=_ANY),
            lap_s=0,
            rounds=self._rounds(7),
            prepare=partial(self._prepare, images, self._images(2_000)),
        )

    def against_stock_beam(self) -> Contest:
        """Ours beside the same job of Beam's own transforms."""
        images = self._images(240, gpu=2_000)
        model = self.settings.folder / "models" / "stock-beam"
        command = self.settings.peer(
            *("stock_beam", "--tar", self._folder(images) / "rest.tar"),
            *("--model", model, "--folder", self.settings.folder),
            *("--image_size", self.settings.image_size),
        )
        options = (
            *("--model", model, "--image_size", self.settings.image_size),
            *("--precision", self.best_precision, *self._tune),
        )
        return Contest(
            "stock-beam",
            f"pipeline of {images:,} JPEGs against stock Beam, the same SavedModel",
            "images/s of ours over images/s of MatchFiles, a Map that decodes by "
            "Pillow, RunInference with the SavedModel as it is and default batches, "
            f"WriteToParquet of dicts, on the local runner; on both sides {_STEADY}",
            subject=self._subject(self.best_precision),
            ours=(self._job(images, *options),),
            others=(Once("stock Beam", command),),
            bar=Bar(5),
            lap_s=0,
            rounds=self._rounds(3),
            prepare=partial(self._prepare, images, model=model),
        )

    def memory(self, name: str, *parts: object, why: str) -> Contest:
        """The peak of ten times the images over that of the images."""
        few, many = self._images(2_000), self._images(20_000)
        return Contest(
            name,
            f"peak memory of {many:,} images against {few:,}, instant model, {why}",
            "peak resident memory of the process and its children, many images over "
            f"few; {why}",
            subject=Subject("instant", "", str(self.settings.image_size)),
            ours=(self._instant(many, *parts),),
            others=(self._instant(few, *parts),),
            bar=Bar(1.1, at_least=False, cores=_ANY),
            shown="peak_mib",
            unit="MiB",
            lap_s=0,
            rounds=self._rounds(3),
            prepare=partial(self._prepare, few, many),
        )

    def linear(self) -> Contest:
        """How the time grows with the images."""
        sizes = [self._images(images) for images in (100_000, 20_000, 2_000)]
        sides = [self._instant(images) for images in sizes]
        return Contest(
            "linear",
            f"time of {', '.join(f'{n:,}' for n in sizes)} images, instant model",
            "exponent of the power law through the times, by least squares of their "
            f"logarithms; {_STEADY}",
            subject=Subject("instant", "", str(self.settings.image_size)),
            ours=(sides[0],),
            others=tuple(sides[1:]),
            bar=Bar(1.03, at_least=False, cores=_ANY),
            figure=exponent,
            shown="seconds",
            unit="s",
            lap_s=0,
            rounds=self._rounds(3),
            prepare=partial(self._prepare, *sizes),
        )

    def _options(self, precision: str) -> tuple[object, ...]:
        settings = self.settings
        return (
            *("--model", settings.model, "--image_size", settings.image_size),
            *("--precision", precision),
        )

    @property
    def _tune(self) -> tuple[str, str]:
        return ("--tune", "rule" if self.settings.quick else "measure")

    def _subject(self, precision: str) -> Subject:
        architecture = self.settings.model.split(":")[1].lower()
        return Subject(architecture, precision, str(self.settings.image_size))

    def _images(self, count: int, *, gpu: int = 0) -> int:
        """How many; a GPU has done few too soon."""
        if self.settings.quick:
            return max(8, count // 1_000)
        return gpu if gpu and self.settings.machine.gpu else count

    def _rounds(self, count: int) -> int:
        return 1 if self.settings.quick else count

    def _folder(self, images: int) -> Path:
        return self.settings.folder / f"shards-{images}"

    def _job(self, images: int, *options: object) -> Once:
        folder = self._folder(images)
        command = python(
            *("benchmarks.job", "--folder", self.settings.folder),
            *("--input", folder, *options),
        )
        return Once(f"bitbeam, {images:,} images", command, limit=3600)

    def _instant(self, images: int, *more: object) -> Once:
        return self._job(images, "--instant", *self._options("float32"), *more)

    def _model_alone(self, precision: str) -> Side:
        batches = 1 if self.settings.quick else 20
        options = (*self._options(precision), *self._tune, "--batches", batches)
        return Side(_MODEL, python("benchmarks.ideal", "model", *options))

    def _decoder(self) -> Side:
        return Side(_DECODER, self._decoding(self._images(2_000), threads=1))

    def _loop(self, images: int, *, threads: int) -> Once:
        command = (*self._decoding(images, threads=threads), "--once")
        return Once("bare loop", command, limit=3600, facts={"threads": threads})

    def _decoding(self, images: int, *, threads: int) -> tuple[str, ...]:
        """The same file again and again, as all of the job's have the same bytes."""
        held = self._images(2_000)
        return python(
            *("benchmarks.ideal", "decode", "--threads", threads),
            *("--tar", first_shard(self._folder(held), held)),
            *("--image_size", self.settings.image_size, "--images", images),
        )

    def _prepare(self, *sizes: int, model: Path | None = None) -> None:
        """Writes the inputs that are not there yet."""
        for images in sizes:
            folder = self._folder(images)
            if not folder.exists():
                _call("benchmarks.inputs", "shards", folder, "--images", images)
        if model and not model.exists():
            _call("benchmarks.inputs", "model", model, "--model", self.settings.model)


def first_shard(folder: Path, images: int) -> Path:
    """A tar file of a folder of so many images."""
    return folder / ("0000.tar" if images >= IMAGES_A_SHARD else "rest.tar")


def over_ideal(*, cores: int, gpu: bool) -> Figure:
    """The pipeline's speed over that of its halves, of the laps of one round.

    Args:
      cores: Of the machine, all of which the model uses, and the decoder too.
      gpu: Whether the model leaves the cores to the decoder.
    """

    def figure(laps: Mapping[str, Lap]) -> float:
        model, decoder = laps[_MODEL], laps[_DECODER]
        decode_s = decoder.more["core_s"]
        if gpu:
            ideal = min(model.speed, cores / decode_s)
        else:
            ideal = cores / (cores / model.speed + decode_s)
        [ours] = [lap for name, lap in laps.items() if name not in (_MODEL, _DECODER)]
        return ours.speed / ideal

    return figure


def exponent(laps: Mapping[str, Lap]) -> float:
    """The p of seconds = a * images ** p, by least squares of the logarithms."""
    points = [(math.log(lap.units), math.log(lap.seconds)) for lap in laps.values()]
    x = statistics.fmean(point[0] for point in points)
    y = statistics.fmean(point[1] for point in points)
    return sum((a - x) * (b - y) for a, b in points) / sum(
        (a - x) ** 2 for a, _ in points
    )


def _call(module: str, *arguments: object) -> None:
    done = subprocess.run(
        python(module, *arguments), cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise SideError(f"{module} {arguments[0]}: {last}")
