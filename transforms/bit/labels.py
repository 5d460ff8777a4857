"""Class names: WordNet ids and words by class id."""

import gzip
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from .spec import ModelError, ModelInfo

if TYPE_CHECKING:
    import pyarrow as pa

KNOWN_LABELS = {"imagenet21k": 21_843, "ilsvrc2012": 1_000}
"""Lists that ship with the package, and their lengths."""


@dataclass(frozen=True)
class ClassNames:
    """Names of a head's classes.

    A name is no key: 525 wordings of ImageNet-21k belong to more than one class.

    Attributes:
      wnids: WordNet ids by class id, string; null where unknown.
      labels: Words by class id, string; null where unknown.
    """

    wnids: "pa.StringArray"
    labels: "pa.StringArray"

    def __len__(self) -> int:
        return len(self.wnids)

    def take(self, class_ids: np.ndarray) -> tuple["pa.StringArray", "pa.StringArray"]:
        """Looks up the ids and the words of many classes, in the order given.

        Args:
          class_ids: Integers of any shape, read in row order.
        """
        import pyarrow as pa

        indices = pa.array(class_ids.ravel())
        return self.wnids.take(indices), self.labels.take(indices)


def load_class_names(info: ModelInfo) -> ClassNames:
    """Loads the names of a model's classes; all null where they are unknown.

    Raises:
      ModelError: A file of names cannot be read, or has not one for each class.
    """
    if info.labels is None:
        return _class_names([(None, None)] * info.classes)
    if info.labels in KNOWN_LABELS:
        return _packaged(info.labels)
    names = _read_file(info.labels)
    if len(names) != info.classes:
        raise ModelError(
            f"labels {info.labels} has {len(names)} lines and model {info.name} has "
            f"{info.classes} classes: give a line for each class, in class order"
        )
    return names


def resolve_labels(labels: str | None, *, classes: int) -> str | None:
    """Chooses the list of names for a head.

    Args:
      labels: As in ModelSpec.
      classes: Of the head.

    Raises:
      ModelError: A list that ships with the package has another length.
    """
    if labels is None:
        return {count: name for name, count in KNOWN_LABELS.items()}.get(classes)
    if labels in KNOWN_LABELS and classes and KNOWN_LABELS[labels] != classes:
        raise ModelError(
            f"labels {labels!r} has {KNOWN_LABELS[labels]} names and the model "
            f"{classes} classes: give a file with a class a line"
        )
    return labels


@cache
def _packaged(name: str) -> ClassNames:
    packed = files(__package__).joinpath(f"data/{name}.tsv.gz").read_bytes()
    return _parse(gzip.decompress(packed).decode())


def _read_file(path: str) -> ClassNames:
    try:
        with open(path, encoding="utf-8") as file:
            return _parse(file.read())
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"labels {path} cannot be read: {error}") from None


def _parse(text: str) -> ClassNames:
    """Reads lines of words, or of a WordNet id, a tab and words."""
    names: list[tuple[str | None, str | None]] = []
    for line in text.splitlines():
        wnid, tab, words = line.partition("\t")
        names.append((wnid, words) if tab else (None, line))
    return _class_names(names)


def _class_names(names: list[tuple[str | None, str | None]]) -> ClassNames:
    import pyarrow as pa

    wnids, labels = zip(*names, strict=True) if names else ((), ())
    return ClassNames(pa.array(wnids, pa.string()), pa.array(labels, pa.string()))
