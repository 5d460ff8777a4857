"""Beam's runner modes that need nothing but Beam, each started as a person would.

The portable ones speak to a job server, as Flink and Spark do; `external` has its
workers started by a worker pool, as on a cluster's machines.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transforms import parquet

_ROOT = Path(__file__).parent.parent
_START_SECONDS = 60
_SUBPROCESS = "beam:env:harness_subprocess_python:v1"
_WORKER = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main"
JOB_SERVER = "apache_beam.runners.portability.local_job_service_main"
WORKER_POOL = "apache_beam.runners.worker.worker_pool_main"


@dataclass(frozen=True)
class Mode:
    """A way to run the same command.

    Attributes:
      name: For the table.
      options: Of Beam; those that name a server's port are added when it runs.
      elsewhere: The work is done in other processes than the command's.
      job_server: Needs Beam's own job server.
      worker_pool: Needs a worker pool.
    """

    name: str
    options: tuple[str, ...] = ()
    elsewhere: bool = False
    job_server: bool = False
    worker_pool: bool = False


def _local(kind: str, workers: int) -> tuple[str, ...]:
    return ("--direct_running_mode", kind, "--direct_num_workers", str(workers))


MODES = (
    Mode("in_memory"),
    Mode("multi_threading", _local("multi_threading", 2)),
    Mode("multi_processing", _local("multi_processing", 2), elsewhere=True),
    Mode("loopback", ("--environment_type", "LOOPBACK"), job_server=True),
    Mode(
        "loopback_process",
        (
            *("--environment_type", "LOOPBACK"),
            *("--experiments", "use_loopback_process_worker"),
        ),
        elsewhere=True,
        job_server=True,
    ),
    Mode(
        "external",
        ("--environment_type", "EXTERNAL"),
        elsewhere=True,
        job_server=True,
        worker_pool=True,
    ),
    Mode(
        "subprocess",
        ("--environment_type", _SUBPROCESS, "--environment_config", _WORKER),
        elsewhere=True,
        job_server=True,
    ),
)


def mode(name: str) -> Mode:
    """The mode of that name."""
    return next(each for each in MODES if each.name == name)


@contextlib.contextmanager
def started(mode: Mode, *, boot: Path | None = None) -> Iterator[tuple[str, ...]]:
    """Starts what a mode needs, gives the command's options, and stops all of it.

    Args:
      mode: Of MODES.
      boot: An executable that the worker pool starts workers with.
    """
    options = mode.options
    with contextlib.ExitStack() as stack:
        if mode.job_server:
            port = stack.enter_context(_server(JOB_SERVER, "--port"))
            endpoint = f"localhost:{port}"
            options += ("--runner", "PortableRunner", "--job_endpoint", endpoint)
        if mode.worker_pool:
            port = stack.enter_context(_server(WORKER_POOL, "--service_port", boot))
            options += ("--environment_config", f"localhost:{port}")
        yield options


@contextlib.contextmanager
def _server(module: str, port_option: str, boot: Path | None = None) -> Iterator[int]:
    """One of Beam's servers in a process of its own; gives its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    arguments = [f"{port_option}={port}"]
    if boot is not None:
        arguments.append(f"--container_executable={boot}")
    # The pool starts plain `python`, which must be this one.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=_ROOT,
        env={**os.environ, "PATH": path},
        start_new_session=True,
    )
    try:
        _wait_for(port, process)
        yield port
    finally:
        # Workers are children of it, in its process group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("localhost", port), timeout=1).close()
            return
        assert process.poll() is None, f"{process.args} ended"
        assert time.monotonic() < deadline, f"{process.args} does not answer"
        time.sleep(0.1)


def halve(output: Path) -> int:
    """Takes every second part away, as a run leaves it that was killed.

    Returns:
      How many images the parts had.
    """
    (output / "summary.json").unlink()
    gone = 0
    for good in sorted((output / "embeddings").iterdir())[1::2]:
        with good.open("rb") as file:
            description, _ = parquet.read_description(file)
        gone += int(description["end_row"]) - int(description["first_row"])
        good.unlink()
        (output / "errors" / good.name).unlink(missing_ok=True)
    return gone
