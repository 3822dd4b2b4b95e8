"""What an action of a bag means: a way of the tool, a way of the joints, or what was said itself; all in [-1, 1] once it is scaled."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from arm_model import Kinematics, ToolStep
from latent_mpc.bag import BagError
from latent_mpc.bag_data.commands import POSITIONS, TOOL_VELOCITY, VELOCITIES
from latent_mpc.bag_data.log import BagLog
from latent_mpc.bag_data.timeline import held

# The commanded tool may stand this far outside the workspace of the task, and anything may move this many times further than an action can.
_OUTSIDE_M = 0.01
_FURTHER = 1.25
# The range of every component is at least this share of the widest one's, and at least this much.
_LEAST_SHARE, _LEAST = 0.05, 1e-6
JOINTS, SAID = "joint displacement", "command"
Values = NDArray[np.float64]


class Meaning(Protocol):
    """Turns what a log says between frames into actions."""

    @property
    def period_s(self) -> float:
        """Seconds between two frames."""
        ...

    def raw(self, log: BagLog, times_ns: NDArray[np.int64], since_ns: int) -> Values:
        """Between frames at ``times_ns (N,)``, by what was commanded since ``since_ns``: ``(N-1, A)`` in the meaning's unit, NaN where unknown."""
        ...

    def scaled_by(self, raw: Values) -> Meaning:
        """The same with a scale that fits all of ``raw (M, A)``, where it has none yet."""
        ...

    def actions(self, raw: Values) -> Values:
        """``raw (M, A)`` as actions, where 1 is the most that an action can say; not clipped."""
        ...

    def refused(self, log: BagLog, times_ns: NDArray[np.int64], since_ns: int, raw: Values) -> dict[str, NDArray[np.bool_]]:
        """Steps ``(N-1,)`` that no action can mean, by the reason."""
        ...

    def still(self, actions: Values) -> Values:
        """How much each of ``actions (M, A)`` asks for ``(M,)``; 0 is no motion."""
        ...

    def description(self) -> dict[str, Any]:
        """``tool_step`` or ``action_space`` of ``dataset.json``."""
        ...


@dataclass(frozen=True)
class ToolMeaning:
    """Displacement of the commanded tool point, as in the simulated tasks."""

    step: ToolStep
    kinematics: Kinematics

    @property
    def period_s(self) -> float:
        """Seconds between two frames."""
        return self.step.period_s

    def tools(self, log: BagLog, times_ns: NDArray[np.int64], since_ns: int) -> tuple[Values, Values]:
        """Tool points ``(N-1, 3) m`` before and after each step."""
        standing = log.standing_at(times_ns, since_ns)
        commands = log.commands
        if commands is None or commands.kind == POSITIONS:
            commanded = standing if commands is None else commands.positions(times_ns, since_ns, standing)
            tools = self.kinematics.tool_points(commanded)
            return tools[:-1], tools[1:]
        seconds = (np.diff(times_ns) / 1e9)[:, None]
        moved = commands.mean_velocity(times_ns) * seconds
        before = self.kinematics.tool_points(standing[:-1])
        if commands.kind == TOOL_VELOCITY:
            return before, before + moved[:, :3]
        assert commands.kind == VELOCITIES
        return before, self.kinematics.tool_points(standing[:-1] + moved)

    def raw(self, log: BagLog, times_ns: NDArray[np.int64], since_ns: int) -> Values:
        """Displacement in steps; see ``Meaning``."""
        before, after = self.tools(log, times_ns, since_ns)
        displacement: Values = (after - before)[:, : self.step.action_dim] / self.step.length_m
        return displacement

    def scaled_by(self, raw: Values) -> ToolMeaning:
        """It has its scale."""
        return self

    def actions(self, raw: Values) -> Values:
        """They are actions already."""
        return raw

    def refused(self, log: BagLog, times_ns: NDArray[np.int64], since_ns: int, raw: Values) -> dict[str, NDArray[np.bool_]]:
        """Outside the workspace, or further than an action leads."""
        inside = np.ones(len(raw), bool)
        for tools in self.tools(log, times_ns, since_ns):
            inside &= np.abs(tools - self.step.clamp(tools)).max(1) <= _OUTSIDE_M
        return {"outside the workspace or too fast": ~(inside & (np.abs(raw).max(1) <= _FURTHER))}

    def still(self, actions: Values) -> Values:
        """Largest component."""
        return _largest(actions)

    def description(self) -> dict[str, Any]:
        """See ``Meaning``."""
        return {"tool_step": asdict(self.step)}


@dataclass(frozen=True)
class VectorMeaning:
    """One number for each of ``names``: ``kind`` joint displacement (rad in a step) or command (what was said), -1..1 between ``low`` and ``high``.

    Without ``low`` and ``high`` they come from the data: symmetric about 0 for what says how far or how fast, the range otherwise.
    """

    kind: str
    names: tuple[str, ...]
    period_s: float
    unit: str = "rad"
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def raw(self, log: BagLog, times_ns: NDArray[np.int64], since_ns: int) -> Values:
        """See ``Meaning``.

        Raises:
            BagError: joints are to move, but the bag says how the tool did; or nothing was commanded where what was said is asked for.
        """
        commands = log.commands
        standing = log.standing_at(times_ns, since_ns)
        if self.kind == JOINTS:
            if commands is not None and commands.kind == TOOL_VELOCITY:
                raise BagError("a twist says nothing of joints: take --means command or, with --task or --like, tool")
            if commands is not None and commands.kind == VELOCITIES:
                turned: Values = commands.mean_velocity(times_ns) * (np.diff(times_ns) / 1e9)[:, None]
                return turned
            return np.diff(standing if commands is None else commands.positions(times_ns, since_ns, standing), axis=0)
        if commands is None:
            raise BagError("nothing was commanded: --means command needs --actions")
        return held(commands.said, times_ns[:-1]) if commands.kind == POSITIONS else commands.mean_velocity(times_ns)

    def scaled_by(self, raw: Values) -> VectorMeaning:
        """See ``Meaning``."""
        if self.low is not None:
            return self
        known = raw[np.isfinite(raw).all(1)]
        if len(known) == 0:
            raise BagError("no step says what was done")
        low, high = known.min(0), known.max(0)
        if self.kind == JOINTS or self.unit != "rad":
            high = np.maximum(-low, high)
            low = -high
        # What hardly moved must not be blown up to the full range: that would be noise.
        middle, half = (low + high) / 2, (high - low) / 2
        half = np.maximum(half, max(_LEAST_SHARE * half.max(), _LEAST))
        low, high = middle - half, middle + half
        return replace(self, low=tuple(map(float, low)), high=tuple(map(float, high)))

    def actions(self, raw: Values) -> Values:
        """See ``Meaning``."""
        assert self.low is not None and self.high is not None
        low, high = np.array(self.low), np.array(self.high)
        scaled: Values = 2 * (raw - low) / (high - low) - 1
        return scaled

    def refused(self, log: BagLog, times_ns: NDArray[np.int64], since_ns: int, raw: Values) -> dict[str, NDArray[np.bool_]]:
        """Before the first command, or more than the scale holds."""
        unknown = ~np.isfinite(raw).all(1)
        return {"before the first command": unknown, "further than the scale reaches": ~unknown & (np.abs(self.actions(raw)).max(1) > _FURTHER)}

    def still(self, actions: Values) -> Values:
        """Largest component of what says how far; largest change of what says where to."""
        if self.kind == JOINTS or self.unit != "rad":
            return _largest(actions)
        return _largest(np.diff(actions, axis=0, prepend=actions[:1]))

    def description(self) -> dict[str, Any]:
        """See ``Meaning``."""
        assert self.low is not None and self.high is not None
        space = {"low": list(self.low), "high": list(self.high), "dim": len(self.names), "meaning": self.kind, "names": list(self.names)}
        return {"action_space": {**space, "unit": self.unit, "period_s": self.period_s}}


def _largest(values: Values) -> Values:
    largest: Values = np.abs(values).max(1)
    return largest


def meaning_from(description: dict[str, Any], where: str, kinematics: Kinematics) -> Meaning:
    """The meaning that another data set's or bundle's ``description`` gives to its actions.

    Raises:
        BagError: it is that of an environment, or cannot be read.
    """
    try:
        if description.get("tool_step"):
            return ToolMeaning(ToolStep.from_json(description["tool_step"]), kinematics)
        space = description["action_space"]
        low, high = (tuple(float(v) for v in space[end]) for end in ("low", "high"))
        return VectorMeaning(str(space["meaning"]), tuple(space["names"]), float(space["period_s"]), str(space["unit"]), low, high)
    except (KeyError, TypeError, ValueError) as error:
        raise BagError(f"the actions of {where} are none that a bag could hold ({error!r}): it must have a tool step, or come from a bag") from error
