"""Recording in the background: a bounded queue before the disk, a thread of its own, and a ring of the last seconds before a trigger."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from latent_mpc.bags.storage import BagError, Channel, RawMessage
from latent_mpc.bags.writer import FolderWriter, Format

_NS = 1_000_000_000


@dataclass(frozen=True)
class Ring:
    """What is kept in memory, and written when a trigger comes: ``before_s`` before it and ``after_s`` after it.

    ``before_s`` of 0 means that everything is written. Beyond ``capacity_bytes`` the oldest is forgotten earlier.
    """

    before_s: float = 0.0
    after_s: float = 5.0
    capacity_bytes: int = 512_000_000


class RingBuffer:
    """The last seconds of all channels, and the last message of each channel whose publisher keeps it for those who come late."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._waiting: deque[RawMessage] = deque()
        self._bytes = 0
        self._latched: dict[Channel, RawMessage] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: RawMessage) -> None:
        """Keep a message and forget what is too old, or too much."""
        self._waiting.append(message)
        self._bytes += len(message.data)
        oldest_ns = message.time_ns - round(self._ring.before_s * _NS)
        while self._waiting and (self._waiting[0].time_ns < oldest_ns or self._bytes > self._ring.capacity_bytes):
            forgotten = self._waiting.popleft()
            self._bytes -= len(forgotten.data)
            self.pass_by(forgotten)

    def pass_by(self, message: RawMessage) -> None:
        """Keep of a message that is not kept any more what those who come late are given."""
        if any(profile.durability == "transient_local" for profile in message.channel.qos):
            self._latched[message.channel] = message

    def empty(self) -> list[RawMessage]:
        """Everything that is kept, and before it what was latched when the first of it came, received at that time."""
        if not self._waiting:
            return []
        first_ns = self._waiting[0].time_ns
        found = [message._replace(time_ns=first_ns) for message in self._latched.values()] + list(self._waiting)
        for message in self._waiting:
            self.pass_by(message)
        self._waiting.clear()
        self._bytes = 0
        return found


class _Trigger(NamedTuple):
    time_ns: int


class Recording:
    """Writes messages to a bag in a thread of its own, so that a slow disk never holds up whoever hands them over.

    ``failure`` is None, or why the bag is incomplete. ``written``, ``dropped`` and ``triggers`` count.
    """

    def __init__(self, folder: Path, capacity_bytes: int, form: Format | None = None, ring: Ring | None = None) -> None:
        """Create the bag; ``capacity_bytes`` may wait for the disk.

        Raises:
            BagError: the folder exists or cannot be made.
        """
        self.folder = folder
        self.failure: str | None = None
        self.written = 0
        self.dropped = 0
        self.triggers = 0
        self._form = form or Format()
        self._ring = ring or Ring()
        self._buffer = RingBuffer(self._ring) if self._ring.before_s > 0 else None
        self._until_ns = 0
        self._capacity = capacity_bytes
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[RawMessage | _Trigger | None] = queue.SimpleQueue()
        try:
            self._writer = FolderWriter(folder, self._form)
        except (OSError, BagError) as error:
            raise BagError(f"cannot write bag {folder}: {reason(error)}") from error
        self._thread = threading.Thread(target=self._run, name="bag-writer", daemon=True)
        self._thread.start()

    def put(self, message: RawMessage) -> None:
        """Hand over one serialized message; drops and counts it when too much is waiting already."""
        with self._lock:
            if self.failure is not None or self._waiting_bytes + len(message.data) > self._capacity:
                self.dropped += 1
                return
            self._waiting_bytes += len(message.data)
        self._queue.put(message)

    def trigger(self, time_ns: int) -> None:
        """Something happened at ``time_ns``: write what led to it and what follows. Without a ring everything is written anyway."""
        self._queue.put(_Trigger(time_ns))

    def close(self) -> None:
        """Write what is waiting and the metadata. Sets ``failure`` when that fails."""
        if not self._thread.is_alive():
            return
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                taken = self._queue.get(timeout=self._form.flush_s / 2)
            except queue.Empty:
                self._attempt(self._writer.flush_if_due)
                continue
            if taken is None:
                break
            if isinstance(taken, _Trigger):
                self._on_trigger(taken.time_ns)
                continue
            self._on_message(taken)
            with self._lock:
                self._waiting_bytes -= len(taken.data)
        # Without metadata.yaml nobody takes an incomplete bag for a complete one.
        self._attempt(self._writer.close)

    def _on_message(self, message: RawMessage) -> None:
        if self._buffer is None or message.time_ns < self._until_ns:
            self._write(message)
            if self._buffer is not None:
                self._buffer.pass_by(message)
            return
        if self._until_ns:
            # What one trigger asked for is whole: the next gets a file of its own.
            self._until_ns = 0
            self._attempt(self._writer.split)
        self._buffer.add(message)
        self._attempt(self._writer.flush_if_due)

    def _on_trigger(self, time_ns: int) -> None:
        self.triggers += 1
        if self._buffer is None:
            return
        for message in self._buffer.empty():
            self._write(message)
        self._until_ns = max(self._until_ns, time_ns + round(self._ring.after_s * _NS))

    def _write(self, message: RawMessage) -> None:
        if self._attempt(lambda: self._writer.write(message.channel, message.time_ns, message.data, message.published_ns)):
            self.written += 1

    def _attempt(self, action: Callable[[], None]) -> bool:
        if self.failure is not None:
            return False
        try:
            action()
        except Exception as error:  # whatever it is: a recorder that goes on and writes nothing would be worse
            with self._lock:
                self.failure = f"cannot write bag {self.folder}: {reason(error)}; it is incomplete"
            return False
        return True


def reason(error: Exception) -> str:
    """Why something failed, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())
