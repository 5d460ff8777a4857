"""The rows about the model alone."""

from dataclasses import dataclass

from .contest import Bar, Contest, Subject
from .settings import Settings
from .side import Side, python

_PEERS = "pip install -e '.[peers]', or give --peers_python"
_WORK = (
    "images/s of ours over images/s of the fastest of the others, from uint8 pixels in "
    "memory to embeddings and 10 scores in memory, the same random weights on all "
    "sides, each on all cores"
)


@dataclass(frozen=True)
class _Model:
    """A model and how it is fed.

    Attributes:
      settings: Of the command.
      name: As `--model` takes it.
      batch_size: Images of a step.
    """

    settings: Settings
    name: str
    batch_size: int

    @property
    def architecture(self) -> str:
        """As in `R50x1`."""
        return self.name.split(":")[1]

    @property
    def title(self) -> str:
        """What is measured, for the table."""
        side = self.settings.image_size
        return f"{self.architecture}, {side} px, batch {self.batch_size}"

    def subject(self, precision: str = "") -> Subject:
        """Names the file of results."""
        size = str(self.settings.image_size)
        return Subject(self.architecture.lower(), precision, size)

    @property
    def options(self) -> tuple[object, ...]:
        """What all sides are told."""
        return (
            *("--model", self.name, "--image_size", self.settings.image_size),
            *("--batch_size", self.batch_size),
        )

    @property
    def _tuning(self) -> tuple[str, ...]:
        # A measurement is of minutes, though once on a machine.
        return ("--tune", "no") if self.settings.quick else ()

    def ours(self, precision: str, *more: str) -> Side:
        """Our side."""
        options = (*self.options, *self._tuning, "--precision", precision, *more)
        return Side(f"bitbeam {precision}", python("benchmarks.ours", *options))

    def untuned(self, precision: str, *, threads: int, batch_size: int) -> Side:
        """Our side, run as it is told."""
        options = ("--threads", threads, "--batch_size", batch_size, "--tune", "no")
        command = python(
            *("benchmarks.ours", *self.options, "--precision", precision, *options)
        )
        return Side(f"{threads} threads, batches of {batch_size}", command)

    def torch(self, name: str, *ways: str, streams: int = 1) -> Side:
        """PyTorch's side, run in some way."""
        options = (*self.options, *ways, "--streams", streams)
        command = self.settings.peer("hugging_face", *options)
        cores = self.settings.machine.cores
        threads = {"OMP_NUM_THREADS": str(max(1, cores // streams))}
        return Side(f"PyTorch {name}", command, env=threads, needs=_PEERS)

    def ceiling(self, what: str, precision: str, *more: object) -> Side:
        """A ceiling's side."""
        options = (what, *self.options, *self._tuning, "--precision", precision)
        return Side(
            f"{what} {precision}", python("benchmarks.ceiling", *options, *more)
        )

    def saved_model(self) -> Side:
        """The SavedModel's side."""
        folder = self.settings.folder / "models"
        command = python(
            "benchmarks.peers.saved_model", *self.options, "--folder", folder
        )
        return Side("SavedModel", command)


def contests(settings: Settings) -> list[Contest]:
    """All of them."""
    model = _Model(settings, settings.model, settings.batch_size)
    reduced = ("bfloat16", "float16") if settings.machine.gpu else ("bfloat16",)
    found = [
        _best(model, ("float32", *reduced), peers=_torch_ways(model), bar=1.3),
        _float32(model),
        _saved_model(model, ("float32", *reduced), bar=Bar(4)),
        _saved_model(model, ("float32",), suffix="-float32"),
        *(_convolutions(model, precision) for precision in ("float32", *reduced)),
        *(_product(model, precision) for precision in ("float32", *reduced)),
        _tuning(model, reduced[0]),
        _large(settings, reduced),
    ]
    return found


def _torch_ways(model: _Model) -> tuple[Side, ...]:
    """All ways to run PyTorch that may be its best."""
    reduced = ("--precision", "bfloat16")
    cast = ("--autocast", "bfloat16")
    ways = [
        model.torch("float32"),
        model.torch("float32 channels_last", "--channels_last"),
        model.torch("bfloat16", *reduced),
        model.torch("bfloat16 channels_last", *reduced, "--channels_last"),
        model.torch("autocast channels_last", *cast, "--channels_last"),
        model.torch("float32 compiled", "--channels_last", "--compile"),
        model.torch("bfloat16 compiled", *reduced, "--channels_last", "--compile"),
    ]
    if model.settings.machine.gpu:
        half = ("--precision", "float16", "--channels_last")
        compiled = (*cast, "--channels_last", "--compile")
        ways.append(model.torch("float16 compiled", *half, "--compile"))
        ways.append(model.torch("autocast compiled", *compiled))
    elif model.settings.machine.cores > 1:
        streams = (*reduced, "--channels_last")
        ways.append(model.torch("bfloat16 2 streams", *streams, streams=2))
        compiled = (*streams, "--compile")
        ways.append(model.torch("bfloat16 compiled 2 streams", *compiled, streams=2))
        ways.append(model.torch("float32 2 streams", "--channels_last", streams=2))
    return tuple(ways)


def _best(
    model: _Model,
    precisions: tuple[str, ...],
    *,
    peers: tuple[Side, ...],
    bar: float,
) -> Contest:
    name = model.architecture.lower()
    return Contest(
        f"{name}-best",
        f"{model.title}: our best precision against PyTorch's best",
        f"{_WORK}; transformers' BitForImageClassification in every way that may be "
        "its best, the two with the best qualifying laps in the rounds",
        subject=model.subject(),
        ours=tuple(model.ours(precision) for precision in precisions),
        others=peers,
        finalists=2,
        bar=Bar(bar),
        lap_s=_lap_s(model.settings),
    )


def _float32(model: _Model) -> Contest:
    return Contest(
        f"{model.architecture.lower()}-float32",
        f"{model.title}: float32 against PyTorch float32 channels_last",
        _WORK,
        subject=model.subject(),
        ours=(model.ours("float32"),),
        others=(model.torch("float32 channels_last", "--channels_last"),),
        bar=Bar(1.1),
        lap_s=_lap_s(model.settings),
    )


def _saved_model(
    model: _Model,
    precisions: tuple[str, ...],
    *,
    suffix: str = "",
    bar: Bar | None = None,
) -> Contest:
    ours = "float32" if suffix else "our best precision"
    return Contest(
        f"{model.architecture.lower()}-saved-model{suffix}",
        f"{model.title}: {ours} against the SavedModel as it is, float32",
        f"{_WORK}; the SavedModel has weight standardization in its graph and group "
        "norm by tf.nn.moments, and is loaded by tf.saved_model.load and called",
        subject=model.subject(),
        ours=tuple(model.ours(precision) for precision in precisions),
        others=(model.saved_model(),),
        bar=bar,
        lap_s=_lap_s(model.settings),
    )


def _convolutions(model: _Model, precision: str) -> Contest:
    return Contest(
        f"{model.architecture.lower()}-convolutions-{precision}",
        f"{model.title}: share of the time that is convolution, {precision}",
        "images/s of ours over images/s of its convolutions alone, which is the share "
        "of our time that they would take: the same shapes, precision and batch, run "
        "by the same predictor, each on a tensor that is there already",
        subject=model.subject(),
        ours=(model.ours(precision),),
        others=(model.ceiling("convolutions", precision),),
        bar=Bar(0.5),
        lap_s=_lap_s(model.settings),
    )


def _product(model: _Model, precision: str) -> Contest:
    size = 256 if model.settings.quick else 4096
    if model.settings.machine.gpu and not model.settings.quick:
        size = 8192
    return Contest(
        f"{model.architecture.lower()}-product-{precision}",
        f"{model.title}: against a product of {size} x {size} matrices, {precision}",
        "GFLOP/s of ours, counting the multiplications and additions of convolutions "
        "and head, over GFLOP/s of one large product of matrices in TensorFlow",
        subject=model.subject(),
        ours=(model.ours(precision, "--gflop"),),
        others=(model.ceiling("product", precision, "--size", size),),
        unit="GFLOP/s",
        lap_s=_lap_s(model.settings),
    )


def _tuning(model: _Model, precision: str) -> Contest:
    cores = model.settings.machine.cores
    sweep = [
        model.untuned(precision, threads=threads, batch_size=batch_size)
        for threads in (1, 2, 4, 8, 16, 32, 64)
        for batch_size in _batches(model)
        if cores % threads == 0 and not (model.settings.machine.gpu and threads > 1)
    ]
    return Contest(
        f"{model.architecture.lower()}-tuning",
        f"{model.title}: as it chooses to run, against a full sweep, {precision}",
        "images/s of ours, with the threads and batches that a short measurement at "
        "load has chosen, over images/s of the best of all threads and batches",
        subject=model.subject(),
        ours=(model.ours(precision),),
        others=tuple(sweep),
        finalists=2,
        bar=Bar(0.95, cores=0),
        lap_s=_lap_s(model.settings),
    )


def _batches(model: _Model) -> list[int]:
    """Up to the one that is the most for the search, too."""
    return [
        batch
        for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
        if batch <= model.batch_size < batch * 9
    ]


def _large(settings: Settings, reduced: tuple[str, ...]) -> Contest:
    name = "random:R14x3:100" if settings.quick else "random:R101x3:21843"
    batch_size = max(2, settings.batch_size // 4)
    model = _Model(settings, name, batch_size)
    bfloat16 = ("--precision", "bfloat16", "--channels_last")
    ways = [
        model.torch("float32 channels_last", "--channels_last"),
        model.torch("bfloat16 channels_last", *bfloat16),
        model.torch("autocast", "--autocast", "bfloat16", "--channels_last"),
        model.torch("bfloat16 compiled", *bfloat16, "--compile"),
    ]
    if settings.machine.cores > 1 and not settings.machine.gpu:
        ways.append(model.torch("bfloat16 2 streams", *bfloat16, streams=2))
    precisions = reduced if settings.machine.gpu else ("float32", *reduced)
    return _best(model, precisions, peers=tuple(ways), bar=1.2)


def _lap_s(settings: Settings) -> float:
    return 0.0 if settings.quick else 3.0
