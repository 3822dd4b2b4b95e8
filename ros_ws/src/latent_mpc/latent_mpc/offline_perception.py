"""A bag's pictures through perception, one after another, as the perception node does it, while others already read and plan.

A thread of its own reads the pictures and keeps their latents only. Whoever asks for the latent of a stamp waits until it is there, or until it is
known that it never will be: what comes out does not depend on who was faster.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.bag import BagMessage, stamp_ns
from latent_mpc.offline_bag import Recorded, ReplayTopics
from ros_bridge.encodings import picture_pixels
from ros_bridge.joints import read_joint_state
from world_model.perception import Perception

F32 = NDArray[np.float32]

# The share of latents that a model makes as they were recorded if it is the recorded run's: single pictures may have been altered since.
_SAME_MODEL = 0.9


@dataclass(frozen=True)
class Seen:
    """A picture's stamp and reception, ns, its ``latent (D,)``, and what the witness makes of it, or the same where there is none."""

    stamp_ns: int
    time_ns: int
    latent: F32
    witness: F32


class Sight:
    """Encodes the pictures of ``bag`` from the moment it is entered. ``scored``: the witness looks as well. Use as a context manager."""

    def __init__(self, bag: Path, topics: ReplayTopics, perception: Perception, scored: bool) -> None:
        self.perception, self.scored = perception, scored
        self.refused: Counter[str] = Counter()
        self.first_refusal: dict[str, str] = {}
        self.stood_in = 0
        self._agrees: bool | None = None
        self._bag, self._topics = bag, topics
        self._frames: dict[int, Seen] = {}
        self._goals: dict[int, Seen] = {}
        self._finished = self._ending = False
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Sight:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending = True
        self._thread.join()

    def frame(self, stamp_ns: int) -> Seen | None:
        """The first frame stamped ``stamp_ns``, or None: the bag has none that can be used.

        Raises:
            BagError: the bag cannot be read.
        """
        return self._found(self._frames, stamp_ns)

    def goal(self, stamp_ns: int) -> Seen | None:
        """The same of a goal picture."""
        return self._found(self._goals, stamp_ns)

    def all(self) -> tuple[list[Seen], list[Seen]]:
        """All frames and all goals, in the order of reception, when the last of them is there."""
        self._found({}, 0)
        return list(self._frames.values()), list(self._goals.values())

    def stand_in(self, recorded: Recorded, stamp_ns: int) -> Seen | None:
        """The recorded latent of a frame that the recorder missed, where this model makes of nearly every other picture what was recorded."""
        frames, _ = self.all()
        if self._agrees is None:
            own = {frame.stamp_ns: frame.latent for frame in frames}
            compared = [(own[entry.stamp_ns], entry.value) for entry in recorded.latents if entry.stamp_ns in own]
            same = sum(np.array_equal(one, other) for one, other in compared)
            self._agrees = bool(compared) and same >= _SAME_MODEL * len(compared)
        latent = next((entry for entry in recorded.latents if entry.stamp_ns == stamp_ns), None)
        if latent is None or not self._agrees:
            return None
        self.stood_in += 1
        witness = next((entry.value for entry in recorded.witnesses if entry.stamp_ns == stamp_ns), latent.value)
        return Seen(stamp_ns, latent.time_ns, latent.value, witness)

    def _found(self, among: dict[int, Seen], stamp_ns: int) -> Seen | None:
        with self._changed:
            self._changed.wait_for(lambda: stamp_ns in among or self._finished)
        if self._failure is not None:
            raise self._failure
        return among.get(stamp_ns)

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:  # else whoever waits would take the rest of the pictures for missing
            self._failure = error
        finally:
            with self._changed:
                self._finished = True
                self._changed.notify_all()

    def _read(self) -> None:
        topics, joints = self._topics, self.perception.model.manifest.joints
        wanted = {topics.camera, topics.goal} | ({topics.joint_states} if self.perception.asks_for_joints else set())
        for entry in topics.messages(self._bag, wanted):
            if self._ending:
                return
            try:
                if entry.topic == topics.joint_states:
                    reading = read_joint_state(entry.message, joints)
                    self.perception.hear(reading.position, reading.stamp_ns)
                else:
                    self._look(entry)
            except (ValueError, AttributeError) as error:  # a kind of message that has no such field
                self.refused[entry.topic] += entry.topic != topics.joint_states  # those are counted where they are read for the planner
                self.first_refusal.setdefault(entry.topic, " ".join(str(error).split()))

    def _look(self, entry: BagMessage) -> None:
        stamp = stamp_ns(entry.message.header.stamp)
        if entry.topic == self._topics.goal:
            # Where the joints were is not known of a goal picture.
            seen, into = self._seen(entry, stamp, None, False), self._goals
        else:
            joints = self.perception.joints_at(stamp)
            seen, into = self._seen(entry, stamp, joints, self.scored and self.perception.has_witness), self._frames
        with self._changed:
            into.setdefault(stamp, seen)
            self._changed.notify_all()

    def _seen(self, entry: BagMessage, stamp: int, joints: Any, scored: bool) -> Seen:
        picture = picture_pixels(entry.message)
        latent = self.perception.encode(picture, joints)
        return Seen(stamp, entry.time_ns, latent, self.perception.testify(picture, joints) if scored else latent)
