"""Forbidden walls and discs, which the planner is told of and the model has never seen: in the arm's way, or where the goal is.

What is forbidden is the tool's point, at any height, judged by where it truly was every 10 ms. The block and the links are not: nothing stands there
in the simulation, so that every policy plays the same scene whether or not it is told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arm_model import ToolStep
from planner_node.guardrails.zone import Zone
from sim.pushing import behind
from sim.tasks import Episode
from world_model.heads.rule import COLUMNS, Rule

WALL, PUSH_WALL, DISC, PUSH_DISC, GOAL_DISC = "wall", "push-wall", "disc", "push-disc", "goal-disc"


@dataclass(frozen=True)
class Walled:
    """A simulated ``task`` with a wall of ``half_m``, or a disc of ``radius_m``, between where the tool starts and where it has to go.

    ``on_goal``: it stands on the goal instead, which then cannot be reached: what counts is that nothing goes there.
    """

    task: str
    half_m: tuple[float, float]
    radius_m: float = 0.0
    on_goal: bool = False


WALLED = {
    WALL: Walled("reach", (0.09, 0.02)),
    PUSH_WALL: Walled("push-around", (0.07, 0.015)),
    DISC: Walled("reach", (0.0, 0.0), 0.05),
    PUSH_DISC: Walled("push-around", (0.0, 0.0), 0.05),
    GOAL_DISC: Walled("reach", (0.0, 0.0), 0.05, on_goal=True),
}
"""The walled tasks by name."""

# Room that the tool needs to pass the end of a wall, and to stand beside it.
_PASSAGE_M = 0.035
_BESIDE_M = 0.03
# No wall where the block is or will be, with the tool behind it.
_BLOCK_ROOM_M = 0.075
_POINTS_BETWEEN, _POINTS_STRAIGHT = 10, 40
# What only touches the straight way is not in it.
_DEEP_M = 0.02


def sim_task(task: str) -> str:
    """The simulated task behind ``task``."""
    return WALLED[task].task if task in WALLED else task


def wall_of(task: str, episode: Episode, workspace: ToolStep) -> Zone | None:
    """The wall of an ``episode`` of a walled ``task``; None where there is no room for one."""
    walled = WALLED[task]
    half = walled.half_m
    start, standoff, path = tool_way(episode)
    if walled.on_goal:
        disc = Zone((float(standoff[0]), float(standoff[1])), half, radius=walled.radius_m)
        return disc if float(disc.signed_distance(start)) > _BESIDE_M else None
    # The straight line to where it has to go is square to the obstacle, or leads through the middle of a disc.
    room = half if not walled.radius_m else (walled.radius_m, walled.radius_m)
    zone = wall_between(start, standoff, room, workspace)
    if zone is None:
        return None
    if walled.radius_m:
        zone = Zone(zone.centre, half, radius=walled.radius_m)
    crowded = episode.block is not None and (zone.signed_distance(path).min() < _BLOCK_ROOM_M or zone.signed_distance(standoff[None])[0] < _PASSAGE_M)
    return None if crowded else zone


def stands_between(rule: Rule, episode: Episode) -> bool:
    """Whether what ``rule`` forbids lies on the tool's straight way to where it has to go, with room for it at both ends and for the block."""
    start, standoff, block = tool_way(episode)

    def margin(tool: NDArray[np.floating], around: NDArray[np.floating]) -> float:
        states = np.zeros((len(tool), len(COLUMNS)))
        states[:, :2], states[:, 3:5] = tool, around
        return float(rule.values(states).min())

    straight = np.linspace(start, standoff, _POINTS_STRAIGHT)
    ends = min(margin(start[None], block[:1]), margin(standoff[None], block[:1]))
    room = margin(block, block) if episode.block is not None else np.inf
    return margin(straight, block[:1]) < -_DEEP_M and ends >= _BESIDE_M and room >= _BLOCK_ROOM_M


def tool_way(episode: Episode) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Where the tool starts ``(2,)``, where it has to go ``(2,)``, behind the block if any, and the block's way ``(N, 2)``, in m."""
    start, end = np.array(episode.tool)[:2], np.array(episode.goal_tool)[:2]
    if episode.block is None or episode.goal_block is None:
        return start, end, np.zeros((1, 2))
    block, goal = (np.array([pose.x, pose.y]) for pose in (episode.block, episode.goal_block))
    return start, behind(block, goal), np.linspace(block, goal, _POINTS_BETWEEN)


def wall_between(start: NDArray[np.float64], goal: NDArray[np.float64], half_m: tuple[float, float], workspace: ToolStep) -> Zone | None:
    """A wall half-way from ``start`` to ``goal``, square to the straight line; None where there is no room for it or no way round it."""
    along = (goal - start)[:2]
    length = float(np.linalg.norm(along))
    if length / 2 < half_m[1] + _BESIDE_M:
        return None
    middle, across = (start + goal)[:2] / 2, np.array([-along[1], along[0]]) / length
    ends = [middle + side * (half_m[0] + _PASSAGE_M) * across for side in (-1.0, 1.0)]
    inside = [bool(np.all(end >= workspace.lower[:2]) and np.all(end <= workspace.upper[:2])) for end in ends]
    if not any(inside):
        return None
    return Zone((float(middle[0]), float(middle[1])), half_m, float(np.arctan2(across[1], across[0])))


def zones_text(zones: tuple[Zone, ...]) -> str:
    """The planner's parameter ``zones``."""
    return json.dumps([{"centre": list(zone.centre), "half": list(zone.half), "yaw": zone.yaw, "radius": zone.radius} for zone in zones])


def clearance_m(zone: Zone, tool_path: NDArray[np.float64]) -> float:
    """Least distance in m of the true tool path ``(N, 3)``, straight from point to point, from the zone; negative where it went inside."""
    if not len(tool_path):
        return float("inf")
    between = np.linspace(tool_path[:-1], tool_path[1:], _POINTS_BETWEEN).reshape(-1, tool_path.shape[1])
    return float(zone.signed_distance(np.concatenate([tool_path, between])).min())
