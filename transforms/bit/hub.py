"""Modules of TensorFlow Hub, found in its cache or fetched by its own library."""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from .spec import ModelError


def resolve(urls: Sequence[str]) -> str:
    """Finds a module's SavedModel folder, downloading it if no cache has it.

    The library's own environment variables hold: `TFHUB_CACHE_DIR`,
    `TFHUB_MODEL_LOAD_FORMAT`, `TFHUB_DOWNLOAD_PROGRESS`. A module that is in the cache
    needs neither the network nor the library.

    Args:
      urls: All that mean the module, the one to download from first.

    Returns:
      A path, or a `gs://` URI if the library was told not to download.

    Raises:
      ModelError: It cannot be downloaded, or the copy in the cache is damaged.
    """
    for url in urls:
        folder = cached_folder(url)
        if folder.is_dir() and any(folder.iterdir()):
            return _checked(str(folder))
    path = _download(urls[0])
    return path if path.startswith("gs://") else _checked(path)


def cached_folder(url: str) -> Path:
    """Where the library keeps its copy of what it loads from a URL.

    (tensorflow_hub 0.16.1, resolver.py and compressed_module_resolver.py.)
    """
    base = os.environ.get("TFHUB_CACHE_DIR")
    root = Path(base) if base else Path(tempfile.gettempdir(), "tfhub_modules")
    return root / hashlib.sha1(url.encode()).hexdigest()


def _checked(path: str) -> str:
    # Whatever tidies /tmp removes files from a cache there and leaves its folders
    # (tensorflow/hub issue 896).
    if not os.path.isfile(os.path.join(path, "saved_model.pb")):
        raise ModelError(
            f"module in {path} has no saved_model.pb: remove the folder, and set "
            "TFHUB_CACHE_DIR to a place that nobody tidies"
        )
    return path


def _download(url: str) -> str:
    # TensorFlow first, so that it comes quietly.
    from .runtime import tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_hub
    try:
        return str(tensorflow_hub.resolve(url))
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(
            f"module {url} cannot be downloaded ({text}): fetch it where there is a "
            "network and set TFHUB_CACHE_DIR, or give a SavedModel folder"
        ) from None
