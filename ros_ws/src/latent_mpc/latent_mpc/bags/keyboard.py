"""Single keys from a terminal, without Enter; nothing where the input is no terminal."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from types import TracebackType

PAUSE, STEP, QUIT = "pause", "step", "quit"
_KEYS = {b" ": PAUSE, b"s": STEP, b"\x1b[C": STEP, b"\x1bOC": STEP, b"q": QUIT}


class Keyboard:
    """Use as a context manager: the terminal is as it was afterwards."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._before: list[int | list[bytes | int]] | None = None
        self._typed = b""

    def __enter__(self) -> Keyboard:
        try:
            descriptor = sys.stdin.fileno()
            # A background job that asks its terminal for keys is stopped. Somebody else's terminal does not even say whose turn it is.
            ours = os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()
        except (OSError, ValueError, AttributeError):
            return self
        if ours:
            self._before = termios.tcgetattr(descriptor)
            self._descriptor = descriptor
            tty.setcbreak(descriptor)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._before is not None:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    @property
    def listening(self) -> bool:
        """Whether there is a terminal."""
        return self._before is not None

    def wait(self, seconds: float) -> str:
        """What a key that is pressed within ``seconds`` means; empty when none is."""
        if not self.listening:
            time.sleep(max(seconds, 0.0))
            return ""
        if not self._typed:
            ready, _, _ = select.select([self._descriptor], [], [], max(seconds, 0.0))
            if ready:
                self._typed = os.read(self._descriptor, 64)
        return self._next()

    def _next(self) -> str:
        while self._typed:
            key = next((key for key in _KEYS if self._typed.startswith(key)), None)
            self._typed = self._typed[len(key or b" ") :]
            if key is not None:
                return _KEYS[key]
        return ""
