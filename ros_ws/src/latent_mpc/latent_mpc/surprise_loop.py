"""Ordinary runs of the planner in closed loop, at the camera's rate: what surprise is calibrated on. The planner node without its node.

As there, each picture gives a plan, the tool pursues it with bounded acceleration, and a new path leaves the old one where that will be when the
plan arrives. The guardrail is left out: it does not intervene in ordinary runs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arm_model import UnreachableError
from latent_mpc.surprise_run import Run
from planner_node.assembly import PlannerConfig
from planner_node.commanded import Commanded
from planner_node.continuation import Continuation
from planner_node.controller import LatentController
from planner_node.guardrails.zones_in_force import ZoneSet
from planner_node.joint_path import JointPathError
from planner_node.solvers.solver import Deadline
from sim.arm_world import PHYSICS_STEP_S
from sim.tasks import PicturedGoalEnv
from sim.tasks.pictured_goal import SETPOINT_PERIOD_S
from world_model.protocol import PlanningModel

FRAMES_PER_STEP = 4
# From a picture to its plan in force, as measured through the nodes.
_LATENCY_NS = 40_000_000
_SENT_STEPS = 3
_DEADLINE_S = 10.0
_MARGIN_RAD = 0.03
_MOVED_M = 0.25e-3


def play_planned(env: PicturedGoalEnv, model: PlanningModel, seed: int, steps: int = 0) -> Run:
    """The episode of ``seed``, ``FRAMES_PER_STEP`` pictures to a model step; the planner steers by every second one, as on a busy machine.

    ``steps``: how many to play, 0 for the task's.
    """
    observation, _ = env.reset(seed=seed)
    step = env.task.tool_step
    controller = LatentController(model, step, PlannerConfig(seed=seed % 2**31))
    controller.start(model.encode(observation["goal"][None])[0], env.task.steps)
    every_ns = round(1e9 * step.period_s / FRAMES_PER_STEP)
    motion = Continuation(env.kinematics, env.world.arm.limits.scaled(velocity=0.9, margin=_MARGIN_RAD), step)
    motion.stand(env.world.joints()[0], 0)
    commanded = motion.commanded
    assert commanded is not None
    frames: list[NDArray[np.uint8]] = []
    tools, joints, contact = [], [], []
    before = env.state().block
    for number in range((steps or env.task.steps) * FRAMES_PER_STEP):
        stamp = number * every_ns
        frames.append(env.render())
        tools.append(commanded.tool_at(stamp))
        joints.append(env.world.joints()[0])
        block = env.state().block
        contact.append(block is not None and before is not None and float(np.hypot(block.x - before.x, block.y - before.y)) > _MOVED_M)
        before = block
        latent = model.encode(frames[-1][None], joints[-1][None].astype(np.float32))[0]
        controller.see(stamp * 1e-9, latent, tools[-1])
        if number % 2 == 0:
            _replan(controller, motion, commanded, stamp)
        _drive(env, commanded, stamp, every_ns)
    points = np.stack(tools)
    actions = np.clip((points[FRAMES_PER_STEP:] - points[:-FRAMES_PER_STEP])[:, : step.action_dim] / step.length_m, -1.0, 1.0)
    measured = np.stack(joints).astype(np.float32)
    return Run(np.stack(frames), actions.astype(np.float32), measured, np.array(contact), per_step=FRAMES_PER_STEP)


def _replan(controller: LatentController, motion: Continuation, commanded: Commanded, stamp: int) -> None:
    switch = stamp + _LATENCY_NS
    tool = commanded.tool_at(switch)
    plan = controller.plan(stamp * 1e-9, tool, Deadline.after(_DEADLINE_S))
    points = plan.points[: _SENT_STEPS + 1] if plan.feasible else np.stack([tool, tool])
    try:
        commanded.follow(motion.motion(points, switch, ZoneSet(), 0.0), switch)
    except (UnreachableError, JointPathError):
        return  # the old path stays in force and ends at rest


def _drive(env: PicturedGoalEnv, commanded: Commanded, stamp: int, span_ns: int) -> None:
    tick = round(1e9 * SETPOINT_PERIOD_S)
    for now in range(stamp + tick, stamp + span_ns + 1, tick):
        env.world.command(commanded.joints_at(now), (commanded.joints_at(now) - commanded.joints_at(now - tick)) / SETPOINT_PERIOD_S)
        env.world.advance(round(SETPOINT_PERIOD_S / PHYSICS_STEP_S))
