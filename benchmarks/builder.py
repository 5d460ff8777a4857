"""Buildah, which builds a Dockerfile without an engine; and what stands in for images.

Its commands run in a chroot with the host's network. Where packages come from is this
machine's own matter: pip's configuration and certificates are mounted, not copied.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOOLS = ("buildah", "debootstrap")
_CERTIFICATES = Path("/etc/ssl/certs")
_STORAGE = "overlay"
_RUN_SECONDS = 300
# Python of Debian is for programs of Debian; the image's is the one in /usr/local.
_PYTHON = "python3 -m venv /usr/local && rm -rf /var/lib/apt/lists/*"
_CLEAN = ("var/cache/apt", "var/lib/apt/lists", "var/cache/debconf")


@dataclass(frozen=True)
class Layer:
    """A layer of an image.

    Attributes:
      made_by: The instruction.
      size: Bytes, unpacked.
    """

    made_by: str
    size: int


@dataclass(frozen=True)
class Builder:
    """Buildah with all of its state below a folder.

    Attributes:
      folder: For images and what is needed on the way.
      mounts: Folders that commands in an image see under the same names.
    """

    folder: Path
    mounts: tuple[Path, ...] = ()

    def stand_in(self, name: str, tree: Path) -> None:
        """Makes an image of a folder's content."""
        container = self._call("from", "scratch").strip()
        self._call("add", "--quiet", container, str(tree), "/")
        self._call("commit", "--quiet", "--rm", container, name)

    def build(self, context: Path, tag: str, arguments: Mapping[str, str]) -> None:
        """Builds the Dockerfile of a folder; what it prints is shown.

        Raises:
          subprocess.CalledProcessError: An instruction failed.
        """
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        subprocess.run(
            [
                *(*self._command, "build-using-dockerfile", "--isolation=chroot"),
                # With layers, to see their sizes; without a cache, for it does not
                # heed arguments (buildah 1.28: `USER ${RUN_AS}`).
                *("--layers", "--no-cache", "--pull-never", "--tag", tag, *given),
                *(*self._registries(), str(context)),
            ],
            check=True,
        )

    def config(self, tag: str) -> dict[str, object]:
        """What an image says of itself: `Entrypoint`, `User`, `Env`."""
        found: dict[str, object] = self._inspect(tag)["OCIv1"]["config"]
        return found

    def layers(self, tag: str) -> list[Layer]:
        """From the lowest to the highest."""
        inspected = self._inspect(tag)
        sizes = [each["size"] for each in json.loads(inspected["Manifest"])["layers"]]
        steps = [
            step["created_by"]
            for step in inspected["OCIv1"]["history"]
            if not step.get("empty_layer")
        ]
        return [Layer(*pair) for pair in zip(steps, sizes, strict=True)]

    def start(
        self, tag: str, *command: str, user: str | None = None
    ) -> "subprocess.Popen[str]":
        """Starts a command in a new container of an image, as its user or another."""
        container = self._call("from", "--pull-never", tag).strip()
        as_user = ["--user", user] if user else []
        mounts = [f"--volume={place}:{place}" for place in self.mounts]
        return subprocess.Popen(
            [
                *(*self._command, "run", "--isolation=chroot", *as_user),
                # Containers share the network, so they find each other by this name.
                "--hostname=localhost",
                *(*self._registries(), *mounts, container, "--", *command),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, tag: str, *command: str, user: str | None = None) -> tuple[int, str]:
        """Runs a command in a new container; gives its exit code and what it says."""
        process = self.start(tag, *command, user=user)
        try:
            said, _ = process.communicate(timeout=_RUN_SECONDS)
        except subprocess.TimeoutExpired:
            return 1, f"not done in {_RUN_SECONDS} s; {stop(process)}"
        return process.returncode, said

    def remove(self) -> None:
        """Removes all images; a plain removal stumbles over what is mounted."""
        self._call("rm", "--all")
        self._call("rmi", "--all", "--force")

    @property
    def _command(self) -> list[str]:
        places = ("--root", str(self.folder / "images"))
        running = ("--runroot", str(self.folder / "running"))
        return ["buildah", *places, *running, "--storage-driver", _STORAGE]

    def _call(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, *arguments], capture_output=True, text=True
        )
        if done.returncode:
            raise OSError(f"buildah {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def _inspect(self, tag: str) -> dict[str, dict[str, object]]:
        return json.loads(self._call("inspect", "--type=image", tag))

    def _registries(self) -> list[str]:
        """How packages are reached from here."""
        configuration = self.folder / "pip.conf"
        pip = _pip_configuration(configuration)
        read_only = {place: place for place in (*pip, _CERTIFICATES)}
        read_only[Path("/etc/pip.conf")] = configuration
        return [f"--volume={at}:{place}:ro" for place, at in read_only.items()]


def _pip_configuration(path: Path) -> list[Path]:
    """Writes this machine's configuration of pip; gives the folders that it names."""
    listed = subprocess.run(
        ["pip", "config", "list"], capture_output=True, text=True, check=True
    )
    # Sorted, so that the environment's come first: they win over files.
    pairs = [line.partition("=")[::2] for line in sorted(listed.stdout.splitlines())]
    values = {name.split(".")[-1]: value.strip("'\"") for name, value in pairs[::-1]}
    lines = [f"{name} = {value}" for name, value in values.items()]
    path.write_text("\n".join(["[global]", *lines, ""]))
    words = [word for value in values.values() for word in value.split()]
    # An index in a folder refers to files beside it.
    indexes = [Path(word[7:]).parent for word in words if word.startswith("file:///")]
    folders = [Path(word) for word in words if word.startswith("/")]
    return [each for each in dict.fromkeys((*indexes, *folders)) if each.is_dir()]


def base(folder: Path, *, suite: str) -> Path:
    """A Debian with Python and nothing else, which stands in for `python:*-slim`.

    Args:
      folder: Where to.
      suite: Debian's release; its Python must be the image's.
    """
    with (folder.parent / "debootstrap.log").open("w") as log:
        subprocess.run(
            [
                *("debootstrap", "--variant=minbase"),
                *("--include=python3,python3-venv,ca-certificates", suite),
                str(folder),
            ],
            check=True,
            stdout=log,
            stderr=log,
        )
    subprocess.run(["chroot", str(folder), "sh", "-c", _PYTHON], check=True)
    for name in _CLEAN:
        shutil.rmtree(folder / name, ignore_errors=True)
    return folder


def program(tree: Path, path: str, text: str) -> Path:
    """Puts an executable file into a tree."""
    file = tree / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return tree


def copy_context(folder: Path, *, extra: Sequence[Path] = ()) -> Path:
    """Makes a folder of the last commit's files, and some more."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", "HEAD"], stdout=subprocess.PIPE, check=True, cwd=ROOT
    )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    for file in extra:
        shutil.copy2(file, folder)
    return folder


def stop(process: "subprocess.Popen[str]") -> str:
    """Ends a command that was started, and all that it has; gives what it said."""
    os.killpg(process.pid, signal.SIGTERM)
    said, _ = process.communicate()
    return said


def missing() -> str:
    """What is not here that is needed; empty where all is."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"needs {' and '.join(absent)}: apt-get install {' '.join(TOOLS)}"
    return "" if os.geteuid() == 0 else "needs root, for debootstrap and chroot"
