"""A world whose latent is the tool's place: what the best plan is, is known by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from arm_model import ToolStep
from planner_node.plan import Problem
from world_model.protocol import F32, ActionMixture, Context

FLAT = ToolStep(length_m=0.04, period_s=0.2, lower=(0.3, -0.3, 0.02), upper=(0.9, 0.3, 0.02))
ROOM = ToolStep(length_m=0.04, period_s=0.2, lower=(0.3, -0.3, 0.1), upper=(0.9, 0.3, 0.5))


@dataclass
class LinearWorld:
    """Latent = driven coordinates of the tool in m; distance = steps to the goal; the actor goes straight there, each at its own ``spread``.

    ``bias`` turns the actor's mean away by that many radians; ``broken`` makes latents NaN after actions whose first component is above it.
    ``told`` collects the steps left that the actor was asked with.
    """

    tool_step: ToolStep = FLAT
    bias: float = 0.0
    spread: float = 0.3
    broken: float = np.inf
    history: int = 3
    told: list[np.ndarray] = field(default_factory=list)

    @property
    def latent_dim(self) -> int:
        return self.tool_step.action_dim

    @property
    def action_dim(self) -> int:
        return self.tool_step.action_dim

    def encode(self, frames: np.ndarray, joints: F32 | None = None) -> F32:
        raise NotImplementedError("a planner sees latents only")

    def rollout(self, context: Context, actions: F32) -> F32:
        assert actions.dtype == np.float32 and context.latents.dtype == np.float32
        after = context.latents[:, -1:, :] + self.tool_step.length_m * np.cumsum(actions, axis=1)
        after = np.clip(after, self.tool_step.lower[: self.action_dim], self.tool_step.upper[: self.action_dim])
        spoiled = np.cumsum(actions[..., 0] > self.broken, axis=1) > 0
        return np.where(spoiled[..., None], np.nan, after).astype(np.float32)

    def distance(self, latents: F32, goal: F32) -> F32:
        return (np.linalg.norm(latents - goal, axis=-1) / self.tool_step.length_m).astype(np.float32)

    def propose(self, latents: F32, goal: F32, steps_left: np.ndarray) -> ActionMixture:
        assert len(steps_left) == len(latents)
        self.told.append(np.array(steps_left))
        way = (goal - latents) / self.tool_step.length_m
        way = way / np.maximum(1.0, np.linalg.norm(way, axis=-1, keepdims=True))
        cos, sin = np.cos(self.bias), np.sin(self.bias)
        turned = np.concatenate([way[:, :2] @ np.array([[cos, sin], [-sin, cos]]), way[:, 2:]], axis=1)
        mean = turned[:, None].astype(np.float32)
        return ActionMixture(np.zeros((len(latents), 1), np.float32), mean, np.full_like(mean, self.spread))


class DescendableWorld(LinearWorld):
    """The same with derivatives, written down by hand."""

    def prepare(self) -> None:
        """There is nothing to load."""

    def pullback(self, context: Context, actions: F32) -> tuple[F32, Callable[[F32], F32]]:
        latents = self.rollout(context, actions)
        lower, upper = (np.array(edge[: self.action_dim]) for edge in (self.tool_step.lower, self.tool_step.upper))
        free = (latents > lower) & (latents < upper)

        def pull(slope: F32) -> F32:
            return (self.tool_step.length_m * np.cumsum((slope * free)[:, ::-1], axis=1)[:, ::-1]).astype(np.float32)

        return latents, pull

    def distance_gradient(self, latents: F32, goal: F32) -> F32:
        away = latents - goal
        return (away / np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-9) / self.tool_step.length_m).astype(np.float32)


def problem(world: LinearWorld, tool: tuple[float, ...], goal: tuple[float, ...], steps_left: float = 20.0, previous: F32 | None = None) -> Problem:
    """An arm at rest at ``tool`` that should get to ``goal``."""
    point = np.array([*tool, *world.tool_step.lower[len(tool) :]])
    latents = np.tile(np.array(tool, dtype=np.float32), (1, world.history, 1))
    context = Context(latents, np.zeros((1, world.history - 1, world.action_dim), np.float32))
    return Problem(context, np.array(goal, dtype=np.float32), point, steps_left, previous)
