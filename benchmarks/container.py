"""Builds the Dockerfile without an engine and tries what came out.

`python -m benchmarks.container` needs root, Debian's buildah and debootstrap, and some
gigabytes of disk. The images that it is built from are stood in for: Debian with
Python for `python:*-slim`, `tests/boot.py` for Beam's boot program, a line of shell
for the launcher. What is built is the last commit; every instruction of the Dockerfile
is executed. What came out is then run: as root and not, as a worker, as a pool of
workers, as a template.
"""

import argparse
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.builder import (
    ROOT,
    Builder,
    base,
    copy_context,
    missing,
    program,
    stop,
)
from tests import outputs, tables
from transforms.bit.random_weights import RandomWeights

BOOT = "/opt/apache/beam/boot"
LAUNCHER = "/opt/google/dataflow/python_template_launcher"
_LAUNCH = '#!/bin/sh\nexec python "$FLEX_TEMPLATE_PYTHON_PY_FILE" "$@"\n'
_USER = "bitbeam"
_MODELS = "/opt/bitbeam/models"
_MODEL = "BiT-M-R14x1.npz"
_POOL_PORT, _POOL_SECONDS = 50000, 60
_VERSIONS = (
    "import importlib.metadata as m, json;"
    "print(json.dumps({d.name.lower().replace('_', '-').replace('.', '-'): d.version"
    " for d in m.distributions()}))"
)
# What venv brings along, and what is built here.
_NOT_PINNED = {"pip", "bitbeam"}


def main() -> None:
    """Builds and tries; exit code 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(prog="benchmarks.container", description=__doc__)
    parser.add_argument("--extras", default="aws", help="aws,gpu: with CUDA")
    parser.add_argument("--suite", default="bookworm", help="Debian with Python 3.11")
    parser.add_argument("--once", action="store_true", help="not the second build")
    parser.add_argument("--folder", type=Path, help="a new one, kept; else temporary")
    args = parser.parse_args()
    lacking = missing()
    if lacking:
        print(f"benchmarks.container: {lacking}", file=sys.stderr)
        sys.exit(2)
    if args.folder is not None:
        args.folder.mkdir(parents=True)
    folder = args.folder or Path(tempfile.mkdtemp(prefix="container-"))
    builder = Builder(folder, mounts=(folder / "shared",))
    try:
        trial = Trial(builder, args.extras)
        trial.prepare(args.suite)
        trial.try_all(once=args.once)
        _print(trial)
    finally:
        if args.folder is None:
            builder.remove()
            shutil.rmtree(folder)
    sys.exit(bool(trial.failed))


def froms(dockerfile: str) -> dict[str, str]:
    """Images that a Dockerfile is built from, by the name of the stage."""
    defaults = dict(re.findall(r"^ARG (\w+)=(\S+)$", dockerfile, re.MULTILINE))
    found = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", dockerfile, re.MULTILINE)
    return {
        stage: re.sub(r"\$\{(\w+)\}", lambda name: defaults[name[1]], image)
        for image, stage in found
    }


def full_name(image: str) -> str:
    """The name of an image with its registry, Docker Hub where it has none."""
    first, _, rest = image.partition("/")
    if not rest:
        return f"docker.io/library/{image}"
    return image if "." in first else f"docker.io/{image}"


@dataclass
class Trial:
    """A build, and what is found of it.

    Attributes:
      builder: Builds and runs.
      extras: Of `setup.py`, for the image.
      done: Of each check its name and seconds.
      failed: Of each that failed its name and what was found.
    """

    builder: Builder
    extras: str
    done: list[tuple[str, float]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def shared(self) -> Path:
        """A folder that containers see under the same name."""
        return self.builder.folder / "shared"

    def prepare(self, suite: str) -> None:
        """Makes the images that the Dockerfile begins with, and some shards."""
        folder = self.builder.folder
        tables.write_shards(self.shared / "in")
        self.shared.chmod(0o777)
        text = (ROOT / "tests" / "boot.py").read_text()
        boot = program(folder / "sdk", BOOT, f"#!/usr/bin/env python\n{text}")
        launcher = program(folder / "launcher", LAUNCHER, _LAUNCH)
        trees: dict[str, Callable[[], Path]] = {
            "sdk": lambda: boot,
            "launcher": lambda: launcher,
            "": lambda: base(folder / "base", suite=suite),
        }
        for stage, image in froms((ROOT / "Dockerfile").read_text()).items():
            tree = trees[stage]()
            self.builder.stand_in(full_name(image), tree)
            shutil.rmtree(tree)

    def try_all(self, *, once: bool) -> None:
        """Builds two images, or one, and tries them."""
        self._check("builds", lambda: self._build("plain"))
        if self.failed:
            return
        self._check("what is installed agrees (pip check)", self._pip_check)
        self._check("its versions are those of constraints.txt", self._versions)
        self._check("starts Beam's boot, as root, and holds no model", self._config)
        self._check("bitbeam --help, not as root", self._help)
        self._check("a run outside, to compare with", self._outside)
        self._check("bitbeam run, not as root, and verify", self._run)
        self._check("as a template's launcher", self._template)
        if once:
            return
        self._check("builds for another user, with a model", self._build_other)
        self._check("as a pool of workers and their boot, not as root", self._pool)
        self._check("runs the model that is in the image", self._model)

    def _check(self, name: str, check: Callable[[], str]) -> None:
        """Notes whether a check finds something wrong, and what."""
        print(f"{name} ...", file=sys.stderr, flush=True)
        start = time.monotonic()
        wrong = check()
        self.done.append((name, time.monotonic() - start))
        if wrong:
            self.failed.append((name, wrong))
            print(f"{name}: {wrong}", file=sys.stderr, flush=True)

    def _build(self, tag: str, *extra: Path, **arguments: str) -> str:
        context = self.builder.folder / "context"
        shutil.rmtree(context, ignore_errors=True)
        copy_context(context, extra=extra)
        try:
            self.builder.build(context, tag, {"EXTRAS": self.extras, **arguments})
        except subprocess.CalledProcessError as error:
            return str(error)
        return ""

    def _pip_check(self) -> str:
        return self._fails("plain", "pip", "check")

    def _versions(self) -> str:
        code, said = self.builder.run("plain", "python", "-c", _VERSIONS)
        if code:
            return said
        found = json.loads(said.splitlines()[-1])
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
        return ", ".join(
            f"{name} {version}, not {pinned.get(name)}"
            for name, version in sorted(found.items())
            if name not in _NOT_PINNED and pinned.get(name) != version
        )

    def _config(self) -> str:
        config = self.builder.config("plain")
        if (config["Entrypoint"], config["User"]) != ([BOOT], "root"):
            return str(config)
        code, said = self.builder.run("plain", BOOT)
        if "No id provided" not in said or code == 0:
            return said
        # Nothing comes along with it that lies in the folder.
        return self._says("plain", "LICENSE", "ls", _MODELS)

    def _help(self) -> str:
        return self._fails("plain", "bitbeam", "--help", user=_USER)

    def _outside(self) -> str:
        command = [sys.executable, "-m", "pipeline", *self._arguments("outside")]
        context = self.builder.folder / "context"
        done = subprocess.run(command, capture_output=True, text=True, cwd=context)
        return done.stderr if done.returncode else ""

    def _run(self) -> str:
        output = str(self.shared / "inside")
        wrong = self._table("plain", "bitbeam", *self._arguments("inside"), user=_USER)
        return wrong or self._fails("plain", "bitbeam", "verify", output, user=_USER)

    def _template(self) -> str:
        _, *given = self._arguments("template")
        pairs = zip(given[::2], given[1::2], strict=True)
        parameters = (f"{name}={value}" for name, value in pairs)
        return self._table("plain", LAUNCHER, *parameters)

    def _build_other(self) -> str:
        file = self.builder.folder / _MODEL
        np.savez(file, **dict(RandomWeights.parse("random:R14x1:30").tensors()))
        wrong = self._build("other", file, MODEL=file.name, RUN_AS=_USER)
        return wrong or self._says("other", _USER, "id", "-un")

    def _pool(self) -> str:
        [entry] = self.builder.config("other")["Entrypoint"]
        pool = self.builder.start("other", str(entry), "--worker_pool")
        external = (
            *("--runner", "PortableRunner", "--job_endpoint", "embed"),
            *("--environment_type", "EXTERNAL"),
            *("--environment_config", f"localhost:{_POOL_PORT}"),
        )
        try:
            _wait_for(_POOL_PORT)
            return self._table("other", "bitbeam", *self._arguments("pool"), *external)
        finally:
            print(stop(pool), file=sys.stderr)

    def _model(self) -> str:
        arguments = list(self._arguments("model"))
        arguments[arguments.index("--model") + 1] = f"{_MODELS}/{_MODEL}"
        wrong = self._says("other", _MODEL, "ls", _MODELS)
        return wrong or self._fails("other", "bitbeam", *arguments)

    def _arguments(self, name: str) -> tuple[str, ...]:
        """Of `bitbeam`, to make a table."""
        places = ("--input", str(self.shared / "in"))
        output = ("--output", str(self.shared / name))
        return ("run", *places, *output, *tables.RUN)

    def _fails(self, tag: str, *command: str, user: str | None = None) -> str:
        """What a command says if it fails."""
        code, said = self.builder.run(tag, *command, user=user)
        return f"exit code {code}: {said}" if code else ""

    def _says(self, tag: str, expected: str, *command: str) -> str:
        """What a command says if it is not what is expected."""
        _, said = self.builder.run(tag, *command)
        return "" if said.strip() == expected else said

    def _table(self, tag: str, *command: str, user: str | None = None) -> str:
        """As above, or says that its table is not the one that was made outside."""
        wrong = self._fails(tag, *command, user=user)
        [output] = re.findall(rf"{self.shared}/(\w+)", " ".join(command))[1:]
        made = outputs.files(self.shared / output)
        if wrong or made == outputs.files(self.shared / "outside"):
            return wrong
        return f"other files than outside: {sorted(made)}"


def _wait_for(port: int) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + _POOL_SECONDS
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("localhost", port), timeout=1).close()
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody listens at port {port}")
        time.sleep(0.2)


def _print(trial: Trial) -> None:
    failed = dict(trial.failed)
    table = Table("", "proven", "s")
    for name, seconds in trial.done:
        table.add_row(name, "NO" if name in failed else "yes", f"{seconds:.0f}")
    sizes = Table("layer", "MB, unpacked")
    for layer in [] if "builds" in failed else trial.builder.layers("plain"):
        made_by = re.sub(r"^.*/bin/sh -c (#\(nop\) )?", "", layer.made_by)
        sizes.add_row(" ".join(made_by.split())[:70], f"{layer.size / 1e6:,.1f}")
    console = Console(width=100)
    console.print(table)
    console.print(sizes)


if __name__ == "__main__":
    main()
