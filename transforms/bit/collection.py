"""The published models: what each is called, where it lies, and what it is for.

Sources: the module pages of tfhub.dev (google/collections/bit), and the README of
google-research/big_transfer for the checkpoints.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product

from .architecture import Architecture
from .spec import ModelError

HUB = "https://tfhub.dev/"
CHECKPOINTS = "https://storage.googleapis.com/bit_models/"

_KAGGLE = "https://www.kaggle.com/models/google/bit/"
_HUB_ARCHITECTURES = ("R50x1", "R50x3", "R101x1", "R101x3", "R152x4")
_ARCHITECTURES = ("R50x1", "R50x3", "R101x1", "R101x3", "R152x2", "R152x4")
_CLASSES = {"S": 1_000, "M": 21_843}
_VTAB_CLASSES = {
    "caltech101": 102,
    "cifar100": 100,
    "clevr-count": 8,
    "clevr-distance": 6,
    "diabetic_retinopathy": 5,
    "dmlab": 6,
    "dsprites-orientation": 16,
    "dsprites-xpos": 16,
    "dtd": 47,
    "eurosat": 10,
    "kitti-distance": 4,
    "oxford_flowers102": 102,
    "oxford_iiit_pet": 37,
    "patch_camelyon": 2,
    "resisc45": 45,
    "smallnorb-azimuth": 18,
    "smallnorb-elevation": 9,
    "sun397": 397,
    "svhn": 10,
}
_FOR = {"S": "trained on ILSVRC-2012", "M": "trained on ImageNet-21k"}


@dataclass(frozen=True)
class Published:
    """One published model.

    Attributes:
      name: As `--model` takes it.
      source: `hub` for a TensorFlow Hub module, `checkpoint` for an `.npz` file.
      url: Where it lies.
      architecture: As in `R50x1`.
      classes: Of its head as documented; 0: it has none. The file decides.
      image_size: Side in pixels that suits it.
      purpose: What it is for, in a few words.
    """

    name: str
    source: str
    url: str
    architecture: str
    classes: int
    image_size: int
    purpose: str

    @property
    def embedding_size(self) -> int:
        """Length of an embedding."""
        return Architecture.parse(self.architecture).embedding_size

    @property
    def parameters(self) -> int:
        """How many numbers its weights are."""
        of = Architecture.parse(self.architecture, classes=self.classes)
        return of.parameters

    @property
    def urls(self) -> tuple[str, ...]:
        """All URLs that mean it, the tfhub.dev or checkpoint one first."""
        if self.source == "checkpoint":
            return (self.url,)
        variation = _variation(self.name)
        return (
            self.url,
            f"{_KAGGLE}TensorFlow2/{variation}/1",
            f"{_KAGGLE}frameworks/tensorFlow2/variations/{variation}/versions/1",
        )


def models_table() -> tuple[Published, ...]:
    """All published models, the modules of TensorFlow Hub first."""
    return tuple(published().values())


def find(name: str) -> Published | None:
    """The published model that a name means, however it is written.

    Args:
      name: A handle, a tfhub.dev or Kaggle URL, a kagglehub handle, or the name of
        an official checkpoint.
    """
    return published().get(_plain(name))


def nearest(name: str, *, count: int = 3) -> list[str]:
    """The published names most like one that is not among them, nearest first."""
    names = {key.lower(): key for key in published()}
    plain = _plain(name).lower()
    longer = sorted((key for key in names if key.startswith(plain)), key=len)
    close = difflib.get_close_matches(plain, names, n=count)
    return [names[key] for key in dict.fromkeys([*longer, *close])][:count]


def unknown(name: str) -> ModelError:
    """The error that says what a name could have meant."""
    close = nearest(name)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return ModelError(
        f"model {name!r} is unknown: {hint}`bitbeam models` lists the names; a path "
        "must be of a SavedModel folder, a .tar.gz of one, or an .npz checkpoint"
    )


@cache
def published() -> Mapping[str, Published]:
    """All published models by name."""
    return {one.name: one for one in (*_modules(), *_checkpoints())}


def _plain(name: str) -> str:
    """A name as the table has it, from any way to write it."""
    name = name.strip().split("?")[0].rstrip("/")
    name = re.sub(r"^https?://(www\.)?tfhub\.dev/", "", name)
    name = re.sub(r"^https?://(www\.)?kaggle\.com/models/", "", name)
    match = re.fullmatch(
        r"google/bit/(?:frameworks/)?tensorflow2/(?:variations/)?([^/]+)/"
        r"(?:versions/)?1",
        name,
        re.IGNORECASE,
    )
    if match:
        return _variations().get(match[1].lower(), name)
    return name.removeprefix("vtab/").removeprefix("distill/")


@cache
def _variations() -> Mapping[str, str]:
    modules = (one for one in published().values() if one.source == "hub")
    return {_variation(one.name): one.name for one in modules}


def _variation(handle: str) -> str:
    """What Kaggle calls a module: its handle's tail with dashes only."""
    tail = handle.removeprefix("google/bit/").removesuffix("/1")
    return tail.replace("/", "-").replace("_", "-")


def _modules() -> Iterator[Published]:
    for letter in "SM":
        for architecture in _HUB_ARCHITECTURES:
            tail = f"{letter}-{architecture}".lower()
            yield _module(tail, architecture, purpose=f"features, {_FOR[letter]}")
    for letter in "SM":
        for architecture in _HUB_ARCHITECTURES:
            yield _module(
                f"{letter}-{architecture}".lower() + "/ilsvrc2012_classification",
                architecture,
                classes=1_000,
                image_size=tuned_size(architecture),
                purpose=f"ILSVRC-2012 classes, {_FOR[letter]}",
            )
    for architecture in _HUB_ARCHITECTURES:
        yield _module(
            f"m-{architecture}".lower() + "/imagenet21k_classification",
            architecture,
            classes=21_843,
            purpose="ImageNet-21k classes",
        )


def _module(
    tail: str,
    architecture: str,
    *,
    purpose: str,
    classes: int = 0,
    image_size: int = 224,
) -> Published:
    name = f"google/bit/{tail}/1"
    return Published(
        name, "hub", HUB + name, architecture, classes, image_size, purpose
    )


def _checkpoints() -> Iterator[Published]:
    for letter, classes in _CLASSES.items():
        for architecture in _ARCHITECTURES:
            yield _checkpoint(
                f"BiT-{letter}-{architecture}",
                architecture,
                classes=classes,
                purpose=_FOR[letter],
            )
    for architecture in _ARCHITECTURES:
        yield _checkpoint(
            f"BiT-M-{architecture}-ILSVRC2012",
            architecture,
            classes=1_000,
            image_size=tuned_size(architecture),
            purpose="ImageNet-21k, then tuned to ILSVRC-2012",
        )
    yield from _distilled()
    yield _checkpoint(
        "BiT-M-R50x1-CIFAR10", "R50x1", classes=10, purpose="tuned to CIFAR-10"
    )
    for architecture, run, task in product(_HUB_ARCHITECTURES, range(3), _VTAB_CLASSES):
        yield _checkpoint(
            f"BiT-M-{architecture}-run{run}-{task}",
            architecture,
            folder="vtab/",
            classes=_VTAB_CLASSES[task],
            purpose=f"tuned to VTAB-1k's {task}",
        )


def _distilled() -> Iterator[Published]:
    """Of "Knowledge distillation: A good teacher is patient and consistent"."""
    for name, classes, size, purpose in (
        ("R50x1_224", 1_000, 224, "distilled from R152x2, ILSVRC-2012"),
        ("R50x1_160", 1_000, 160, "distilled from R152x2, ILSVRC-2012"),
        ("R152x2_T_224", 1_000, 224, "teacher, ILSVRC-2012"),
        ("R152x2_T_384", 1_000, 384, "teacher, ILSVRC-2012"),
        ("R152x2_T_flowers128", 102, 128, "teacher, Oxford Flowers"),
        ("R152x2_T_pet128", 37, 128, "teacher, Oxford-IIIT Pets"),
        ("R152x2_T_food128", 101, 128, "teacher, Food-101"),
        ("R152x2_T_sun128", 397, 128, "teacher, SUN397"),
    ):
        yield _checkpoint(
            name,
            name.split("_")[0],
            folder="distill/",
            classes=classes,
            image_size=size,
            purpose=purpose,
        )


def _checkpoint(
    name: str,
    architecture: str,
    *,
    classes: int,
    purpose: str,
    folder: str = "",
    image_size: int = 224,
) -> Published:
    url = f"{CHECKPOINTS}{folder}{name}.npz"
    return Published(
        name, "checkpoint", url, architecture, classes, image_size, purpose
    )


def tuned_size(architecture: str) -> int:
    """Side at which the models tuned to ILSVRC-2012 are evaluated.

    (google-research/robustness_metrics, models/bit.py.)
    """
    return 480 if architecture.endswith("x4") else 384
