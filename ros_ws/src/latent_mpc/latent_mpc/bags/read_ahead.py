"""Reads messages before they are due, so that a slow disk or a large chunk makes none of them late."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator

from latent_mpc.bags.storage import RawMessage

_CAPACITY_BYTES = 64_000_000
_CAPACITY = 2000


class ReadAhead:
    """Iterates over ``messages``, which a thread of its own reads. Close it before what it reads from."""

    def __init__(self, messages: Iterable[RawMessage]) -> None:
        self._messages = messages
        self._read: deque[RawMessage] = deque()
        self._bytes = 0
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[RawMessage]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._read or self._ended)
                if not self._read:
                    if self._error is not None:
                        raise self._error
                    return
                message = self._read.popleft()
                self._bytes -= len(message.data)
                self._changed.notify_all()
            yield message

    def wait_until_filled(self, timeout_s: float) -> None:
        """Return when as much as there is room for has been read."""
        with self._changed:
            self._changed.wait_for(lambda: self._full() or self._ended, timeout_s)

    def close(self) -> None:
        """Stop reading."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _full(self) -> bool:
        return len(self._read) >= _CAPACITY or (bool(self._read) and self._bytes >= _CAPACITY_BYTES)

    def _run(self) -> None:
        try:
            for message in self._messages:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or not self._full())
                    if self._closed:
                        return
                    self._read.append(message)
                    self._bytes += len(message.data)
                    self._changed.notify_all()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
