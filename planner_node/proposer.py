"""What the planner node decides, event by event, without ROS and without a clock of its own.

The node hands over what it hears, with the time at which it heard it, and sends what comes out; an offline replay hands over what a bag holds. Both
run this class, so that what is proposed for the same events at the same times is the same, to the bit. All that it takes in, and every look at the
clock while it thinks, goes into its journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arm_model import ArmDescription, Kinematics, ToolStep, UnreachableError
from planner_node.cadence import Cadence
from planner_node.commanded import Commanded
from planner_node.continuation import Continuation
from planner_node.controller import LatentController
from planner_node.episode import Code, Progress
from planner_node.guardrails.exact import PostureCheck
from planner_node.guardrails.guardrail import Guardrail
from planner_node.guardrails.zones_in_force import ZoneSet, ZonesInForce
from planner_node.joint_path import JointPath, JointPathError
from planner_node.journal import Clock, Journal, Kind, Moment, checksum
from planner_node.outlet import Outlet, Values
from planner_node.planner_file import planner_config
from planner_node.surprise_watch import SurpriseWatch, followed
from planner_node.tally import Tally
from planner_node.validator import validated
from world_model.protocol import F32, CostHead, PlanningModel, SafetyHead
from world_model.surprise import SurpriseCalibration

if TYPE_CHECKING:
    from planner_node.planner_parameters import PlannerParameters

_S = 1e-9
# What is sent of a plan: a new one comes long before its end.
_SENT_STEPS = 3
_MOST_GAP_S = 1.0
# Clocks of one machine agree that well; what lies further ahead was stamped by a clock that is wrong.
_FUTURE_NS = 50_000_000
# An arm that holds and is found this far from where it held was moved by somebody else.
_HELD_M = 0.01

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Equipment:
    """What a proposer works with, made once: the arm, the model with its heads, and the guardrails that never change.

    ``surprise`` is a calibration, and why there is none, empty if there is.
    """

    arm: ArmDescription
    kinematics: Kinematics
    tool_step: ToolStep
    model: PlanningModel
    surprise: tuple[SurpriseCalibration, str]
    heads: tuple[SafetyHead, ...] = ()
    cost_heads: tuple[CostHead, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    posture: PostureCheck | None = None


class Proposer:
    """Turns latents into proposals for as long as a goal is shown and steps are left."""

    def __init__(self, equipment: Equipment, parameters: PlannerParameters, clock: Clock, outlet: Outlet) -> None:
        """Everything that can be wrong with ``parameters`` is found here, and every graph runs once: the first plan is as fast as the others.

        Raises:
            ValueError: in one line.
        """
        self.equipment, self.parameters = equipment, parameters
        self.journal = Journal()
        self.motion = Continuation(
            equipment.kinematics, equipment.arm.limits.scaled(velocity=0.9, margin=parameters.position_margin), equipment.tool_step, equipment.posture
        )
        self.watch = SurpriseWatch(equipment.model, equipment.tool_step, *equipment.surprise)
        self._clock, self._outlet = clock, outlet
        self._new_controller(parameters).warm_up(equipment.tool_step.clamp(equipment.kinematics.tool_point(equipment.arm.home)))
        self._controller = self._new_controller(parameters)
        self._active = False
        self._measured: Vector | None = None
        self._waiting_goal: tuple[F32, int] | None = None
        self._goal_ns = self._goal_stamp = 0
        self._zones = ZonesInForce(parameters.clearance_m, parameters.zones)
        self._fenced = ZoneSet()
        self._progress = Progress(parameters.progress())
        self._code = Code.IDLE
        self._begun_ns: int | None = None
        self._episode_steps = parameters.steps
        self._last_frame_ns = 0
        self._tally = Tally()
        self._cadence = Cadence()
        self._margins: dict[str, float] = {}

    @property
    def code(self) -> Code:
        """What has become of the goal."""
        return self._code

    def _new_controller(self, p: PlannerParameters) -> LatentController:
        given = self.equipment
        config = planner_config(p.mode, p.solver, p.planner_file, seed=p.seed, clearance_m=p.clearance_m)
        config = replace(config, heads=given.heads, cost_heads=given.cost_heads, guardrails=given.guardrails)
        return LatentController(given.model, given.tool_step, config)

    # What is heard.

    def set(self, parameters: PlannerParameters, now: Moment, name: int = 0, zones_named: bool = False) -> None:
        """Other parameters from now on; a journal calls them by ``name``. ``zones_named``: zones were among what was set, be it to what they were.

        Raises:
            ValueError: nothing can be made of them; those before stay.
        """
        self._new_controller(parameters)  # what cannot be built is refused now, not when a goal comes
        if zones_named or parameters.zones != self.parameters.zones:
            self._zones = ZonesInForce(parameters.clearance_m, parameters.zones)
        elif parameters.clearance_m != self.parameters.clearance_m:
            self._zones = self._zones.with_clearance(parameters.clearance_m)
        self._progress.config = parameters.progress()
        self.parameters = parameters
        self.journal.note(Kind.SETTINGS, name, now, [1.0] if zones_named else ())

    def remember(self, took_s: Sequence[float]) -> None:
        """Earlier searches took so long: for a replay that begins in the middle of a run."""
        self._tally.remember(took_s)

    def activate(self, now: Moment) -> None:
        """From now on goals are pursued."""
        self.journal.note(Kind.ACTIVATE, 0, now)
        self._active = True

    def deactivate(self, now: Moment) -> None:
        """Give up the goal; the guardrail brakes when plans stop."""
        self.journal.note(Kind.DEACTIVATE, 0, now)
        self._end(Code.CANCELED, now)
        self._code, self._waiting_goal = Code.IDLE, None
        self._active = False

    def measured(self, position: Vector, stamp_ns: int, now: Moment) -> None:
        """The joints are at ``position (J,) rad``."""
        self.journal.note(Kind.JOINTS, stamp_ns, now, position.tolist())
        self._measured = position
        if self._waiting_goal is not None and self._active:
            goal, self._waiting_goal = self._waiting_goal, None
            self._begin(*goal)

    def goal(self, latent: F32, stamp_ns: int, now: Moment) -> None:
        """A goal ``latent (D,)`` is shown, of the picture stamped ``stamp_ns``."""
        self.journal.note(Kind.GOAL, stamp_ns, now)
        self._begin(latent, stamp_ns)

    def _begin(self, latent: F32, stamp_ns: int) -> None:
        try:
            controller = self._new_controller(self.parameters)  # its file may have changed since the parameter was set
        except ValueError as error:
            return self.reject("goal", error)
        if self._measured is None or not self._active:
            # Latched goals reach a planner that starts late; the arm's pose comes with the next joint state.
            self._waiting_goal = (latent, stamp_ns)
            return
        now = self._now()
        self._end(Code.REPLACED, now)
        self._controller = controller
        self._controller.start(latent, self.parameters.steps)
        self._controller.fence(self._zones.current)
        self._episode_steps = self.parameters.steps
        self._goal_stamp, self._goal_ns = stamp_ns, now.ros_ns
        self.motion.stand(self._measured, self._goal_ns)
        self.watch.restart()
        self._cadence.restart()
        self._begun_ns, self._code = None, Code.PLANNING
        self._tally.new_goal()
        self._progress = Progress(self.parameters.progress())
        self._fence()

    def zones(self, text: str, now: Moment) -> None:
        """Zones from now on, in the middle of an episode too; what cannot be read changes nothing."""
        self.journal.note(Kind.ZONES, checksum(text), now)
        changed = self._zones.take(text)
        if self._zones.refused:
            self._tally.rejected_zones += 1
            self._outlet.say("zones", f"zones rejected, those in force stay: {self._zones.refused}")
        elif changed or self._zones.current != self._fenced:  # the same text may be the parameter's, which waits for the next goal
            if self._code is Code.PLANNING:
                self._controller.fence(self._zones.current)
            self._fence()

    def _fence(self) -> None:
        self._fenced = self._zones.current if self._controller.sees_zones else ZoneSet()
        self._outlet.fenced(self._zones.current)

    def cancel(self, now: Moment) -> tuple[bool, str]:
        """Give up the goal and hold; whether there was one, and a word."""
        self.journal.note(Kind.CANCEL, 0, now)
        if self._waiting_goal is None and self._code is not Code.PLANNING:
            return False, f"no goal is pursued: {self._code.name}"
        if self._code is Code.PLANNING:
            self._hold(max(self._last_frame_ns, self._goal_ns))
            self._end(Code.CANCELED, now)
        self._waiting_goal = None
        return True, Code.CANCELED.name

    def frame(self, latent: F32, stamp: int, now: Moment) -> None:
        """The ``latent (D,)`` of the frame stamped ``stamp`` has come."""
        self.journal.note(Kind.FRAME, stamp, now)
        self._margins = {f"margin_{head.name}": float(head.margins(latent[None])[0]) for head in self.equipment.heads}
        if self._code is not Code.PLANNING or self.motion.commanded is None:
            return
        self._tally.frame_age_ms = (now.ros_ns - stamp) * 1e-6
        if stamp - now.ros_ns > _FUTURE_NS:
            self.reject("latent", ValueError(f"its frame lies {-self._tally.frame_age_ms:.0f} ms in the future"))
            return
        gap_s = (stamp - self._last_frame_ns) * _S
        if self._begun_ns is not None and abs(gap_s) > _MOST_GAP_S:
            self._end(Code.INTERRUPTED, now, f"{gap_s:.1f} s between two frames: the camera paused or the clock jumped; show the goal again")
            return
        if self._tally.frame_age_ms > 1e3 * self.parameters.frame_timeout_s or stamp < self._goal_ns:
            return  # a plan from a stale frame is worse than none: the guardrail brakes when plans stop
        try:
            self._controller.see(stamp * _S, latent, self.motion.commanded.tool_at(stamp))
        except ValueError as error:
            return self.reject("latent", error)
        self._last_frame_ns = stamp
        self._begun_ns = stamp if self._begun_ns is None else self._begun_ns
        self._progress.see(stamp * _S, self._controller.distance(latent))
        self._decide(stamp)

    def witness(self, latent: F32, stamp: int, now: Moment) -> None:
        """Score a frame against what was expected to be seen; an arm that does not do what it was commanded has no history to expect from."""
        self.journal.note(Kind.WITNESS, stamp, now)
        if self._measured is None or stamp - now.ros_ns > _FUTURE_NS:
            return
        held = self._code is not Code.PLANNING
        within = _HELD_M if held else self.parameters.resync_m
        tool = followed(self.motion.commanded, stamp, self._measured, now.ros_ns, self.equipment.kinematics, within)
        if held and tool is None:
            self.motion.stand(self._measured, now.ros_ns)
        reading = self.watch.see(stamp * _S, latent, tool)
        if reading is not None:
            self._outlet.surprise(reading)

    def tick(self, now: Moment) -> None:
        """Time has passed, a few times a second."""
        self.journal.note(Kind.TICK, 0, now)
        if self._begun_ns is not None and self._lost(self._last_frame_ns, now):
            self._end(Code.INTERRUPTED, now, "no frame to plan from any more; show the goal again")
        self._outlet.status()

    def reject(self, what: str, error: Exception) -> None:
        """Count a message that could not be used."""
        self._tally.rejected_inputs += 1
        self._outlet.say(what, f"{what} rejected: {error}")

    # What is decided.

    def _decide(self, stamp: int) -> None:
        verdict = self._progress.verdict
        if self._controller.steps_left(stamp * _S) <= 0:
            verdict = Code.REACHED_HORIZON
        elif not self.parameters.finish_early:
            verdict = Code.PLANNING
        now = self._now()
        if verdict is not Code.PLANNING:
            self._hold(stamp)
            self._end(verdict, now)
        elif self.parameters.stop_on_surprise and self.watch.surprised:
            self._outlet.say("surprise", "surprised: no plan is sent")
        elif self._cadence.due(stamp, self.parameters.rate_hz):
            self._replan(stamp, now)

    def _replan(self, stamp: int, begun: Moment) -> None:
        # The arm moves on while we plan: the new path leaves the old one where it will be when this plan arrives.
        switch = max(stamp, begun.ros_ns + round(1e6 * self._tally.plan_ms_percentile(50)))
        commanded = self._resync(begun)
        tool = commanded.tool_at(switch)
        left = commanded.tool_at(stamp) if self.parameters.compensate_latency else tool
        found = self._controller.plan(stamp * _S, tool, self._clock.deadline(self.parameters.deadline_s), left)
        plan, path = validated(found, lambda choice: self._path(self._controller.sound(choice).points[: _SENT_STEPS + 1], switch))
        done = self._now()
        self.journal.note(Kind.SEARCH, plan.iterations if plan.cut else 0, done)
        self._tally.planned(plan, begun.steady_s, done.steady_s - begun.steady_s, self.parameters.deadline_s)
        self._progress.planned(stamp * _S, sent=path is not None)
        if path is not None:
            self._send(path, stamp, switch)
        else:
            self._refuse(plan.verdict.reason)
            self._hold(stamp)
        self._outlet.imagined(plan, stamp)
        self._outlet.status()

    def _now(self) -> Moment:
        now = self._clock.now()
        self.journal.note(Kind.READING, 0, now)
        return now

    def _resync(self, now: Moment) -> Commanded:
        """What is commanded; where the arm does not follow, for example because the guardrail stopped it, that it stands where it is measured."""
        assert self.motion.commanded is not None and self._measured is not None
        if self.motion.strays(self._measured, now.ros_ns, self.parameters.resync_m):
            self._tally.resyncs += 1
            self.motion.stand(self._measured, now.ros_ns)
        return self.motion.commanded

    def _path(self, points: Vector, switch: int) -> JointPath:
        return self.motion.motion(points, switch, self._fenced, self.parameters.clearance_m)

    def _send(self, path: JointPath, stamp: int, switch: int) -> None:
        """Send a motion that begins at ``switch``, stamped with the frame that it was made from."""
        self._outlet.plan(stamp, *self.motion.follow(path, stamp, switch))

    def _hold(self, stamp: int) -> None:
        """Hold what is commanded now. Where that cannot be held, or no fresh frame says so, nothing is sent, and the guardrail brakes."""
        now = self._now()
        if self.motion.commanded is None or self._measured is None or self._lost(stamp, now):
            return
        switch = max(stamp, now.ros_ns)
        tool = self._resync(now).tool_at(switch)
        try:
            self._send(self._path(np.stack([tool, tool]), switch), stamp, switch)
        except (UnreachableError, JointPathError) as error:
            self._refuse(str(error))

    def _refuse(self, reason: str) -> None:
        self._tally.refused_plans += 1
        self._outlet.say("plan", f"plan refused: {reason}")

    def _end(self, code: Code, now: Moment, reason: str = "") -> None:
        """The goal that is pursued, if there is one, is no more; the result says why."""
        if self._code is not Code.PLANNING:
            return
        if reason:
            self._outlet.say("end", reason, grave=True)
        self._code = code
        self._outlet.result(code, {**self._pursuit(), "seconds": (now.ros_ns - self._goal_ns) * _S, "reason": reason})
        self._outlet.status()

    def _lost(self, stamp: int, now: Moment) -> bool:
        return (now.ros_ns - stamp) * _S > max(_MOST_GAP_S, self.parameters.frame_timeout_s)

    # What is told.

    def _pursuit(self) -> Values:
        """Which goal it is, named by the stamp of its picture, and how far its pursuit has come."""
        progress = self._progress
        step = 0.0 if self._begun_ns is None else self._episode_steps - self._controller.steps_left(self._last_frame_ns * _S)
        return {
            "goal_stamp_ns": self._goal_stamp,
            "code": int(self._code),
            "step": round(step),
            "steps": self._episode_steps,
            "plans": self._tally.plans,
            "steps_to_goal": progress.distance if np.isfinite(progress.distance) else -1.0,
            "near": progress.near,
            "stalled": progress.stalled,
            "blocked": progress.blocked,
        }

    def values(self) -> Values:
        """Plain numbers for a status."""
        zones = self._zones.current
        others: Values = {"mode": self.parameters.mode, "zones": len(zones.zones) + len(zones.solids)}
        return {**self._pursuit(), **self._tally.values(), **others, **self.watch.values(), **self._margins}

    @property
    def worrying(self) -> bool:
        """Whether the newest plan may not be carried out."""
        plan = self._tally.last_plan
        return plan is not None and not plan.feasible and self._code is Code.PLANNING
