"""The registry of a container image: whether it has it, before a job starts in it."""

import logging
import queue
import re
import threading
from dataclasses import dataclass

import google.auth
import requests
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession

from .errors import UsageError

_SECONDS = 5.0
_READ = "https://www.googleapis.com/auth/cloud-platform"
_GOOGLES = re.compile(r"(^|\.)(gcr\.io|pkg\.dev)$")
_LOOPBACK = re.compile(r"^(localhost|127\.0\.0\.1)(:\d+)?$")
# Without these names a registry answers 404 for an image of a form that they allow.
_FORMS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageName:
    """The name of an image, in parts.

    Attributes:
      registry: Its host, with a port where it has one; empty: Docker Hub.
      repository: Path within the registry.
      reference: A tag, or a digest with its colon.
    """

    registry: str
    repository: str
    reference: str

    @property
    def manifest(self) -> str:
        """Where the registry tells of it."""
        # Docker too speaks without TLS to a registry on loopback, and only there.
        scheme = "http" if _LOOPBACK.match(self.registry) else "https"
        path = f"v2/{self.repository}/manifests/{self.reference}"
        return f"{scheme}://{self.registry}/{path}"

    @property
    def is_googles(self) -> bool:
        """Whether Google's credentials are for its registry, and nobody else's."""
        return bool(_GOOGLES.search(self.registry))


def parse(image: str) -> ImageName:
    """The parts of a name such as `us-docker.pkg.dev/my-project/folder/image:tag`."""
    first, slash, rest = image.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, path = (first, rest) if is_host else ("", image)
    path, at, digest = path.partition("@")
    repository, _, tag = path.partition(":")
    return ImageName(registry, repository, digest if at else tag or "latest")


def check(image: str, *, seconds: float = _SECONDS) -> None:
    """Asks the registry whether an image is there, if that is quick.

    Google's registries are asked, with the credentials that are found, and one on
    loopback. What is not known is logged in one line: the credentials of workers are
    others than of who submits, so that a refusal here does not mean one there.

    Args:
      image: Its name.
      seconds: To wait for an answer, at most.

    Raises:
      UsageError: It is not there.
    """
    name = parse(image)
    if not (name.is_googles or _LOOPBACK.match(name.registry)):
        _LOGGER.debug("%s is in no registry that is asked", image)
        return
    answer = _within(seconds, name)
    if answer == 404:
        raise UsageError(
            f"--sdk_container_image {image}: {name.registry} has no such image; build"
            " and push it, or name another"
        )
    if answer in (401, 403):
        _LOGGER.warning(
            "%s does not show %s to these credentials (HTTP %s): workers use their own,"
            " and do not start if it is not there; roles/artifactregistry.reader shows"
            " it",
            *(name.registry, image, answer),
        )
    elif answer != 200:
        _LOGGER.warning(
            "whether %s is there is not known: %s", image, answer or "no answer in time"
        )


def _within(seconds: float, name: ImageName) -> int | str | None:
    """What `_ask` gives; None: not in that time."""
    answers: queue.Queue[int | str] = queue.Queue()
    # Not to be waited for: looking for credentials alone may take half a minute.
    threading.Thread(target=lambda: answers.put(_ask(name)), daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return None


def _ask(name: ImageName) -> int | str:
    """An HTTP status, or why there is none."""
    try:
        with _session(name) as session:
            answer = session.head(
                name.manifest, headers={"Accept": _FORMS}, timeout=_SECONDS
            )
    except (requests.RequestException, GoogleAuthError) as error:
        return type(error).__name__
    return answer.status_code


def _session(name: ImageName) -> requests.Session:
    if not name.is_googles:
        return requests.Session()
    credentials, _ = google.auth.default(scopes=[_READ])
    return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
