"""Where a model's name leads: to random weights, a checkpoint or a SavedModel."""

import os
from dataclasses import dataclass

from . import cache, collection, hub
from .cache import Progress, Remote
from .random_weights import PREFIX
from .spec import ModelError

RANDOM, CHECKPOINT, SAVED_MODEL = "random", "checkpoint", "saved_model"


@dataclass(frozen=True)
class Source:
    """A model that is at hand on this machine.

    Attributes:
      kind: RANDOM, CHECKPOINT or SAVED_MODEL.
      path: Of the file or folder; the name itself for random weights.
      image_size: Side in pixels that suits it, if its name tells.
    """

    kind: str
    path: str
    image_size: int | None = None


def find_source(
    name: str, *, remote: Remote | None = None, progress: Progress | None = None
) -> Source:
    """Finds a model by name, and copies it to this machine if it lies elsewhere.

    Raises:
      ModelError: The name means nothing, or what it means cannot be had.
    """
    if name.startswith(PREFIX):
        return Source(RANDOM, name)
    published = collection.find(name)
    if published and not os.path.exists(name):
        path = _fetch_published(published, remote=remote, progress=progress)
        return _at(path, image_size=published.image_size)
    if name.startswith(("https://tfhub.dev/", "https://www.kaggle.com/models/")):
        return _at(_local(hub.resolve([name]), remote=remote, progress=progress))
    if cache.is_remote(name):
        return _at(cache.fetch(name, remote=remote, progress=progress))
    if not os.path.exists(name):
        raise _missing(name)
    return _at(name)


def _fetch_published(
    published: collection.Published,
    *,
    remote: Remote | None,
    progress: Progress | None,
) -> str:
    if published.source == "checkpoint":
        return cache.fetch(published.url, remote=remote, progress=progress)
    path = hub.resolve(published.urls)
    return _local(path, remote=remote, progress=progress)


def _local(path: str, *, remote: Remote | None, progress: Progress | None) -> str:
    if cache.is_remote(path):
        return cache.fetch(path, remote=remote, progress=progress)
    return path


def _at(path: str, *, image_size: int | None = None) -> Source:
    """What lies at a path."""
    if path.endswith(cache.ARCHIVES):
        return Source(SAVED_MODEL, _only_folder(cache.unpack(path)), image_size)
    if path.endswith(".npz"):
        stem = os.path.basename(path).removesuffix(".npz")
        known = collection.find(stem)
        return Source(
            CHECKPOINT, path, image_size or (known.image_size if known else None)
        )
    if os.path.isfile(os.path.join(path, "saved_model.pb")):
        return Source(SAVED_MODEL, path, image_size)
    raise ModelError(
        f"model {path} is neither a SavedModel folder (it has no saved_model.pb), nor "
        "a .tar.gz of one, nor an .npz checkpoint"
    )


def _only_folder(path: str) -> str:
    """Where saved_model.pb is: archives have it at the top or in one folder."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    inner = os.path.join(path, names[0]) if len(names) == 1 else path
    folder = inner if os.path.isdir(inner) else path
    if not os.path.isfile(os.path.join(folder, "saved_model.pb")):
        raise ModelError(f"archive of {path} holds no saved_model.pb")
    return folder


def _missing(name: str) -> ModelError:
    stem = os.path.basename(name).removesuffix(".npz")
    if name.endswith(".npz"):
        known = collection.find(stem)
        hint = f": to download it, give {known.name}" if known else ""
        return ModelError(f"checkpoint {name} does not exist{hint}")
    return collection.unknown(name)
