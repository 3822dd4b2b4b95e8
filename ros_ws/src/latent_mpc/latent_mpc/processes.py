"""Nodes as processes that never outlive whoever started them."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from ros_bridge.exit_status import BAD_INPUT_STATUS

_LAST_LINES = 3
_PATIENCE = ((signal.SIGINT, 10.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
# Several processes share few cores: a pool of threads in each of them only gets in the others' way.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Value = str | int | float | bool


class NodeInputError(ValueError):
    """A node refused what it was given; the message is its own last line."""


class NodeDiedError(RuntimeError):
    """A node ended although nobody asked it to, with its last lines."""


@dataclass(frozen=True)
class NodeCommand:
    """A node to start: ``python -m module`` with a parameter file, single parameters that override it, and names that it is to use for others.

    ``environment`` is added to that of all nodes.

    ``niceness`` above 0 lets the other nodes go first where cores are short.
    """

    name: str
    module: str
    parameter_file: Path | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)
    niceness: int = 0
    remaps: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        """The command line."""
        line = [sys.executable, "-m", self.module, "--ros-args"]
        if self.parameter_file is not None:
            line += ["--params-file", str(self.parameter_file)]
        for key, value in self.parameters.items():
            line += ["-p", f"{key}:={str(value).lower() if isinstance(value, bool) else value}"]
        for old, new in self.remaps.items():
            line += ["-r", f"{old}:={new}"]
        return line


class Processes:
    """Running nodes, each in a session of its own: a Ctrl-C in the terminal reaches only us, and we stop them in order."""

    def __init__(self, commands: Sequence[NodeCommand], environment: Mapping[str, str], logs: Path) -> None:
        """Start every command; what a node prints goes to ``logs/<name>.log`` when it has ended.

        Until then it is kept in memory: a node whose disk is full must still be able to say so.

        Raises:
            OSError: the folder cannot be made or a process cannot be started; those that were are stopped.
        """
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._said: dict[str, int] = {}
        logs.mkdir(parents=True, exist_ok=True)
        try:
            for command in commands:
                self._start(command, {**os.environ, **_ONE_THREAD, **command.environment, **environment})
        except BaseException:
            self.stop()
            raise

    def _start(self, command: NodeCommand, environment: Mapping[str, str]) -> None:
        self._said[command.name] = os.memfd_create(command.name, os.MFD_CLOEXEC)
        self._running[command.name] = subprocess.Popen(
            command.arguments(),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._said[command.name],
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=functools.partial(_die_with, os.getpid(), command.niceness),
        )

    def pid(self, name: str) -> int:
        """The process of a node."""
        return self._running[name].pid

    def check(self) -> None:
        """Do nothing as long as all nodes live.

        Raises:
            NodeInputError: one has ended with the status for bad input.
            NodeDiedError: one has ended otherwise.
        """
        for name, process in self._running.items():
            status = process.poll()
            if status is None:
                continue
            lines = self._last_lines(name)
            if status == BAD_INPUT_STATUS and lines:
                raise NodeInputError(lines[-1])
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            raise NodeDiedError(" | ".join([f"{name} {how}", *lines]))

    def stop(self) -> dict[str, int]:
        """Stop all nodes: ask, then insist, then kill. Returns their exit statuses; it cannot be interrupted by a second Ctrl-C."""
        with _deaf_to(signal.SIGINT, signal.SIGTERM):
            for number, patience_s in _PATIENCE:
                for process in self._running.values():
                    if process.poll() is None:
                        with contextlib.suppress(ProcessLookupError):
                            os.killpg(process.pid, number)
                deadline = time.monotonic() + patience_s
                for process in self._running.values():
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, deadline - time.monotonic()))
                if all(process.poll() is not None for process in self._running.values()):
                    break
            for name in self._said:
                # Where the disk is full, the node that could not write has said so, and its reason goes to the user.
                with contextlib.suppress(OSError):
                    (self._logs / f"{name}.log").write_text(self.output(name))
            return {name: process.wait() for name, process in self._running.items()}

    def last_line(self, name: str) -> str:
        """The last thing that a node printed."""
        return (self._last_lines(name) or [f"{name} said nothing"])[-1]

    def _last_lines(self, name: str) -> list[str]:
        text = self.output(name)
        return [line.strip() for line in text.splitlines() if line.strip()][-_LAST_LINES:]

    def output(self, name: str) -> str:
        """All that a node has printed so far."""
        descriptor = self._said[name]
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")


def _die_with(parent: int, niceness: int) -> None:
    """Run in a new process before its program starts: the kernel ends it when the process ``parent`` is gone, however that went."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
    os.nice(niceness)


@contextlib.contextmanager
def _deaf_to(*numbers: signal.Signals) -> Iterator[None]:
    """Ignore signals for a while; only the main thread may, others pass."""
    try:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    except ValueError:
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the main thread as Ctrl-C does, so that everything that was started is stopped."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
