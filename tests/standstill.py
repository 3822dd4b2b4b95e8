"""When this machine stood still: a test that failed then has shown nothing, and is run again; one that failed on a machine that ran is not.

Hosts of virtual machines take the processors away for up to a second at a time. A test of processes that must answer within a tenth of that cannot
tell a late answer from a machine that was not there. So one process a core looks at the clock fifty times a second, and notes where it could not.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RERUNS = 2
LEAST_S = 0.2
"""A pause that is shorter than this fails a test as on any other machine."""
_LOOK_S = 0.02
_PR_SET_PDEATHSIG = 1


class Watch:
    """Watches the cores from ``start`` to ``close``; ``begin`` marks the beginning of what ``stood_still`` asks about."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="latent-mpc-standstill-")
        self._notes = Path(self._folder.name) / "pauses"
        self._notes.touch()
        self._begun_s = time.monotonic()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, __file__, str(self._notes), str(os.getpid())]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
        self._folder.cleanup()

    def begin(self) -> None:
        self._begun_s = time.monotonic()

    def pauses(self, since_s: float = 0.0) -> list[float]:
        """How long a core stood still, s, each time that it did since ``since_s`` on the monotonic clock."""
        entries = (line.split() for line in self._notes.read_text().splitlines())
        return [float(until) - float(since) for since, until in entries if float(until) > since_s]

    def stood_still(self, error: BaseException | None) -> bool:
        """Whether a core did since ``begin``; asked after every test, of which only one that failed needs to know."""
        if error is None:
            return False
        time.sleep(5 * _LOOK_S)  # whoever was stopped together with this process has yet to note it
        return bool(self.pauses(self._begun_s))


def _look(core: int, notes: str) -> None:
    """Forever, from ``core``."""
    os.sched_setaffinity(0, {core})
    with open(notes, "a", buffering=1) as written:
        before = time.monotonic()
        while True:
            time.sleep(_LOOK_S)
            now = time.monotonic()
            if now - before > LEAST_S + _LOOK_S:
                written.write(f"{before} {now}\n")
            before = now


def _main(notes: str, parent: int) -> None:
    if sys.platform != "linux":
        return
    group = os.getpid()
    for core in sorted(os.sched_getaffinity(0)):
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == group:
                _look(core, notes)
            os._exit(0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    while os.getppid() == parent:
        time.sleep(1.0)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
