"""Watches every frame for what the predictor did not expect, as far as it is known what the arm was commanded to do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arm_model import Kinematics, ToolStep
from planner_node.commanded import Commanded
from world_model.protocol import F32, WorldModel
from world_model.surprise import Reading, SurpriseCalibration, SurpriseMonitor


def followed(
    commanded: Commanded | None, stamp_ns: int, joints: NDArray[np.float64], now_ns: int, kinematics: Kinematics, within_m: float
) -> NDArray[np.float64] | None:
    """The commanded tool point ``(3,) m`` at ``stamp_ns``, or None: the arm, at ``joints (J,) rad`` now, is not where it was commanded to be.

    Then it was moved by hand, by a simulator that set up its scene, or was held back, and nobody knows what it did.
    """
    if commanded is None:
        return None
    strays = kinematics.tool_point(joints) - kinematics.tool_point(commanded.joints_at(now_ns))
    return commanded.tool_at(stamp_ns) if float(np.linalg.norm(strays)) < within_m else None


class SurpriseWatch:
    """Scores frames, counts surprises, and has a word about them.

    Without a calibration ``why_not`` says why; then scores are raw and nothing is flagged.
    """

    def __init__(self, model: WorldModel, tool_step: ToolStep, calibration: SurpriseCalibration, why_not: str = "") -> None:
        self._monitor = SurpriseMonitor(model, calibration, tool_step.period_s)
        self._tool_step = tool_step
        self._why_not = why_not
        self._newest: Reading | None = None
        self._unheard: Reading | None = None
        self._frames = self._surprised_frames = self._surprises = self._restarts = 0

    def see(self, stamp_s: float, latent: F32, tool: NDArray[np.float64] | None) -> Reading | None:
        """The score of a frame's ``latent (D,)``, with the ``tool (3,) m`` as commanded at its time, or None where there is no telling yet.

        ``tool`` is None where it is not known what the arm was commanded to do: by hand, by another node, or not as it was told. Then the history
        begins anew, and nothing is a surprise until it is long enough.

        Raises:
            SurpriseError: the latent is not finite.
        """
        if tool is None:
            self.restart()
            return None
        reading = self._monitor.see(stamp_s, latent, tool[: self._tool_step.action_dim] / self._tool_step.length_m)
        if reading is None and self._newest is not None and stamp_s <= self._newest.stamp_s:
            return None  # a late frame tells nothing new
        if reading is not None:
            self._frames += 1
            self._surprised_frames += reading.surprised
            self._surprises += reading.surprised and not self.surprised
            if self._unheard is None or reading.score > self._unheard.score:
                self._unheard = reading
        self._newest = reading
        return reading

    def restart(self) -> None:
        """A new goal, a scene that was set up anew: what comes has nothing to do with what was."""
        if len(self._monitor):
            self._restarts += 1
        self._monitor.restart()
        self._newest = None

    @property
    def surprised(self) -> bool:
        """Whether the newest frame is a surprise."""
        return self._newest is not None and self._newest.surprised

    def values(self) -> dict[str, float | int | bool]:
        """For a status: the newest score (0 where there is none), the threshold (0 where there is none), and counts."""
        return {
            "surprise": 0.0 if self._newest is None else self._newest.score,
            "surprise_threshold": self._monitor.calibration.threshold or 0.0,
            "surprised": self.surprised,
            "surprises": self._surprises,
            "surprised_frames": self._surprised_frames,
            "scored_frames": self._frames,
            "surprise_restarts": self._restarts,
        }

    def taken(self) -> Reading | None:
        """The highest reading since the last call, None where there was none."""
        highest, self._unheard = self._unheard, None
        return highest

    def word(self, highest: Reading | None) -> tuple[str, bool]:
        """What is to be said where that was the ``highest`` reading for a while, and whether it is a reason to worry."""
        if self._why_not:
            return self._why_not, False
        if highest is None:
            return "not enough history", False
        if highest.surprised:
            return f"the camera does not show what was expected: surprise {highest.score:.2f}, threshold {highest.threshold:.2f}", True
        return "as expected", False
