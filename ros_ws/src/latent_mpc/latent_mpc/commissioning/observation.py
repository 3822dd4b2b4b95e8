"""What was seen of the live graph, as plain data: the checks read it and need no ROS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Endpoint:
    """A publisher or subscriber on a topic: its node's full name, its message type, and why it cannot talk to ours, empty when it can."""

    node: str
    type: str
    objection: str = ""


@dataclass(frozen=True)
class Stream:
    """Messages of one topic. ``arrivals (N,) s`` on a steady clock; ``stamps (N,) ns``; ``lags (N,) s``: ROS time of reception less the stamp."""

    arrivals: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    stamps: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    lags: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @property
    def rate_hz(self) -> float:
        """Messages per second, 0 for fewer than two."""
        if self.arrivals.size < 2:
            return 0.0
        return float((self.arrivals.size - 1) / max(self.arrivals[-1] - self.arrivals[0], 1e-9))

    @property
    def lag_s(self) -> float:
        """The median lag: a busy machine delays some messages, a wrong clock all."""
        return float(np.median(self.lags)) if self.lags.size else 0.0


@dataclass(frozen=True)
class JointsSeen:
    """The newest joint state: names and positions as they came, and whether there were velocities."""

    names: tuple[str, ...]
    positions: tuple[float, ...]
    velocities: bool


@dataclass(frozen=True)
class PictureSeen:
    """The newest picture; ``objection`` is why perception would refuse it, its size aside."""

    width: int
    height: int
    encoding: str
    frame_id: str
    objection: str = ""


@dataclass(frozen=True)
class CalibrationSeen:
    """The newest camera_info; ``focal`` is (fx, fy) in pixels, ``centre`` (cx, cy)."""

    width: int
    height: int
    frame_id: str
    focal: tuple[float, float]
    centre: tuple[float, float]


@dataclass(frozen=True)
class GuardrailSeen:
    """The guardrail: its lifecycle state, what its status said, and what ~/stop and ~/reset did; empty texts for no answer.

    ``after_stop`` are all states that were reported from the answer of ~/stop until ~/reset was called, ``after_reset`` the last one after it.
    ``robot`` and ``output`` are parameters of it, empty where it does not say what its settings are.
    """

    lifecycle: str = ""
    state: str = ""
    shadow: bool = False
    stop: str = ""
    after_stop: tuple[str, ...] = ()
    reset: str = ""
    after_reset: str = ""
    robot: str = ""
    output: str = ""


@dataclass(frozen=True)
class Observation:
    """Everything that was seen in ``seconds``. Topics are absolute names; a topic that nobody publishes has no entry."""

    seconds: float
    publishers: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    subscribers: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    streams: Mapping[str, Stream] = field(default_factory=dict)
    joints: JointsSeen | None = None
    picture: PictureSeen | None = None
    calibration: CalibrationSeen | None = None
    description: str = ""
    guardrail: GuardrailSeen | None = None
