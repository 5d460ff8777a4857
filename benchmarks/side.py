"""A side of a contest: a command that works in a process of its own.

Two kinds, called in the same way. A `Side` prepares once, prints a JSON line of facts,
then answers each line `lap N` with a JSON line (see `benchmarks.laps`). A `Once` is a
command that is run afresh for each lap.
"""

import contextlib
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parent.parent


class SideError(Exception):
    """A side cannot take part; one line."""


@dataclass(frozen=True)
class Lap:
    """What was done in a stretch of time.

    Attributes:
      seconds: How long it took.
      units: How much was done, mostly images.
      more: What else the side said of it, JSON-able.
    """

    seconds: float
    units: float
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def speed(self) -> float:
        """Units a second."""
        return self.units / self.seconds


@dataclass(frozen=True)
class Side:
    """A command that prepares once and then works whenever it is told to.

    Attributes:
      name: Shown.
      command: Its arguments, the interpreter first.
      env: Variables that it has besides ours.
      limit: Seconds that no preparation and no lap may take.
      needs: What to do where its modules are missing.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    limit: float = 900.0
    needs: str = ""

    def start(self) -> "Process":
        """Starts the process and waits until it is ready.

        Raises:
          SideError: It is not.
        """
        return Process(self)

    def described(self) -> str:
        """What to type to have it alone."""
        variables = [f"{name}={value}" for name, value in self.env.items()]
        return shlex.join([*variables, *self.command])


@dataclass(frozen=True)
class Once(Side):
    """A command that is one lap, from its start to its end.

    The last line of its output may be a lap's JSON; else the lap is all of the
    command's time. `more` always has `wall_s`, `cpu_s` (user and system) and
    `peak_mib`, of the process itself and the children that it waited for. The peak is
    never less than that of the process which starts it, so that one must stay small.

    Attributes:
      units: What a lap does, if the command does not say.
      facts: As a `Side` says them when it is ready.
    """

    units: float = 1.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def start(self) -> "Process":
        """Starts nothing yet."""
        return _Runs(self)


class Process:
    """A side that is ready. It is stopped, but for its laps: idle it costs nothing.

    Attributes:
      facts: What it said of itself when it was ready.
    """

    def __init__(self, side: Side) -> None:
        self._side = side
        with contextlib.ExitStack() as stack:
            self._errors = stack.enter_context(tempfile.TemporaryFile())
            self._stack = stack.pop_all()
        self._popen = _spawn(side, stdin=subprocess.PIPE, stderr=self._errors)
        self.facts: Mapping[str, Any] = self._attend(self._answer)
        self._signal(signal.SIGSTOP)

    def lap(self, amount: int) -> Lap:
        """Lets it do so many units of its own work.

        Raises:
          SideError: It died, took too long, or answered nonsense.
        """
        self._signal(signal.SIGCONT)
        answer = dict(self._attend(lambda: self._ask(f"lap {amount}\n")))
        self._signal(signal.SIGSTOP)
        return _lap(answer, name=self._side.name)

    def close(self) -> None:
        """Ends it; may be called again."""
        if self._errors.closed:
            return
        if self._popen.poll() is None:
            self._signal(signal.SIGKILL)
        self._popen.communicate()
        self._stack.close()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._popen.stdin
        try:
            self._popen.stdin.write(line)
            self._popen.stdin.flush()
        except BrokenPipeError:
            raise self._dead() from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._popen.stdout
        # Libraries print, too.
        for line in self._popen.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise self._dead()

    def _attend(self, work: Any) -> Mapping[str, Any]:
        """Does what waits for the process, and ends it where that takes too long."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self._signal(signal.SIGKILL)

        timer = threading.Timer(self._side.limit, end)
        # Else Ctrl-C at the wrong instant would leave it waiting at exit.
        timer.daemon = True
        try:
            timer.start()
            return work()
        except SideError:
            if late.is_set():
                raise _late(self._side) from None
            raise
        except BaseException:
            self._signal(signal.SIGKILL)
            raise
        finally:
            timer.cancel()

    def _dead(self) -> SideError:
        code = self._popen.wait()
        return _died(self._side, code, self._errors)

    def _signal(self, number: int) -> None:
        # Of a session of its own, so that what it has started goes with it.
        try:
            os.killpg(self._popen.pid, number)
        except ProcessLookupError:
            return


class _Runs(Process):
    """A `Once`, as a process that is ready."""

    def __init__(self, side: Once) -> None:
        self._side, self._once = side, side
        self.facts = side.facts

    def lap(self, amount: int) -> Lap:
        """Runs the command once, whatever the amount."""
        with tempfile.TemporaryFile() as errors:
            began = time.perf_counter()
            self._popen = _spawn(self._side, stdin=subprocess.DEVNULL, stderr=errors)
            assert self._popen.stdout
            timer = threading.Timer(
                self._side.limit, self._signal, args=(signal.SIGKILL,)
            )
            timer.daemon = True
            try:
                timer.start()
                said = self._popen.stdout.read()
                _, status, usage = os.wait4(self._popen.pid, 0)
            except BaseException:
                self._signal(signal.SIGKILL)
                raise
            finally:
                timer.cancel()
                self._popen.stdout.close()
            seconds = time.perf_counter() - began
            code = self._popen.returncode = os.waitstatus_to_exitcode(status)
            if code:
                late = seconds > self._side.limit
                raise _late(self._side) if late else _died(self._side, code, errors)
        answer = {"seconds": seconds, "units": self._once.units}
        return _lap(
            answer | _last_object(said) | _used(seconds, usage), name=self._side.name
        )

    def close(self) -> None:
        """Nothing is running."""


def _spawn(side: Side, *, stdin: int, stderr: IO[bytes]) -> "subprocess.Popen[str]":
    try:
        return subprocess.Popen(
            side.command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=ROOT,
            env=os.environ | dict(side.env),
            # Ctrl-C is for the one that asks; it ends the sides.
            start_new_session=True,
        )
    except OSError as error:
        raise SideError(f"{side.name}: {error}") from None


def _lap(answer: dict[str, Any], *, name: str) -> Lap:
    try:
        return Lap(float(answer.pop("seconds")), float(answer.pop("units")), answer)
    except (KeyError, TypeError, ValueError):
        raise SideError(f"{name}: no seconds or units in its answer") from None


def _last_object(said: str) -> dict[str, Any]:
    last = said.strip().rpartition("\n")[2]
    try:
        found = json.loads(last) if last.startswith("{") else {}
    except ValueError:
        found = {}
    return found


def _used(seconds: float, usage: resource.struct_rusage) -> dict[str, float]:
    return {
        "wall_s": seconds,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
    }


def _late(side: Side) -> SideError:
    return SideError(f"{side.name}: took longer than {side.limit:.0f} s")


def _died(side: Side, code: int, errors: IO[bytes]) -> SideError:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    last = lines[-1].strip()[:200] if lines else "it said nothing"
    needs = side.needs if "ModuleNotFoundError" in last else ""
    remedy = f": {needs}" if needs else ""
    return SideError(f"{side.name}: ended with code {code}, {last}{remedy}")


def python(module: str, *arguments: object, interpreter: str = "") -> tuple[str, ...]:
    """The command that runs one of our modules."""
    return (interpreter or sys.executable, "-m", module, *map(str, arguments))
