"""Search along the actor: candidates start differently and are continued, in imagination, by the actor itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from planner_node.guardrails.zone import ZoneGuardrail
from planner_node.plan import Candidates, Problem
from planner_node.settings import SettingsError, require_counts
from planner_node.solvers.edges import Detours, Edges
from planner_node.solvers.search import Search
from planner_node.solvers.solver import Deadline
from world_model.protocol import F32, Actor

# A zone that the actor runs into within so many steps is in its way now.
_AT_HAND = 2


@dataclass(frozen=True)
class ActorRolloutsConfig:
    """``samples`` first actions drawn from the actor besides its mode, imagined at most ``horizon`` steps ahead.

    With zones or learned guardrails all look ``fenced_horizon`` steps ahead, because a detour pays late; ``directions`` candidates more hold a random
    direction for 1 to ``held`` steps before the actor takes over, ``rounding`` more follow it up to a zone and then the edge of that, half of them to
    either side, for 2 to 12 steps; and the actor's mode is only given up for a candidate that is better by ``override`` (in cost, that is steps).
    """

    samples: int = 23
    horizon: int = 10
    directions: int = 32
    held: int = 6
    rounding: int = 16
    fenced_horizon: int = 20
    override: float = 1.0

    def __post_init__(self) -> None:
        require_counts("actor_rollouts", horizon=self.horizon, held=self.held, fenced_horizon=self.fenced_horizon)
        require_counts("actor_rollouts", 0, samples=self.samples, directions=self.directions, rounding=self.rounding)
        if not self.override >= 0:
            raise SettingsError(f"solver 'actor_rollouts': override is {self.override}, must be at least 0")


class ActorRollouts:
    """The default: the actor's own future is always among the candidates, so that without zones no plan is worse, in its own eyes, than the actor."""

    def __init__(
        self,
        config: ActorRolloutsConfig,
        actor: Actor,
        zones: Sequence[ZoneGuardrail],
        fenced: bool,
        rng: np.random.Generator,
    ) -> None:
        self._config = config
        self._actor = actor
        self._zones = zones
        self._fenced = fenced
        self._rng = rng

    def iterate(self, search: Search, deadline: Deadline) -> Iterator[None]:
        """Imagine all candidates step by step, each step an iteration; at the deadline they are judged as far as they have got."""
        config, problem = self._config, search.problem
        meaning = search.imagination.meaning
        edges = Edges(self._zones, meaning)
        directions = config.directions if self._fenced else 0
        keep_previous = problem.previous is not None and len(problem.previous) > 0 and self._fenced
        detours = Detours.drawn(config.rounding if self._zones else 0, self._rng)
        count = 1 + config.samples + directions + detours.count + int(keep_previous)
        horizon = search.horizon(config.fenced_horizon if self._fenced else config.horizon)
        forced = self._forced(problem, count, directions, keep_previous, horizon, search.action_dim)
        context = problem.context.repeated(count)
        points = [np.repeat(problem.tool[None], count, axis=0)]
        actions: list[F32] = []
        latents: list[F32] = []
        blocked = False
        for step in range(horizon):
            now = np.ascontiguousarray(context.latents[:, -1])
            mixture = self._actor.propose(now, problem.goal, np.full(count, problem.steps_left - step))
            action = mixture.mode()
            if step == 0 and config.samples:
                drawn = slice(1, 1 + config.samples)
                action[drawn] = mixture.sample(self._rng)[drawn]
            held = ~np.isnan(forced[:, step, 0])
            action[held] = forced[held, step]
            rows = slice(1 + config.samples + directions, 1 + config.samples + directions + detours.count)
            detours.turn(edges, points[-1][rows], action[rows])
            free = action[0]
            action = edges.kept_out(points[-1], action)
            blocked |= step < _AT_HAND and not np.array_equal(free, action[0])
            imagined = search.imagination.rollout(context, action[:, None])[:, 0]
            context = context.extended(action, imagined)
            actions.append(action)
            latents.append(imagined)
            points.append(meaning.advance(points[-1], action))
            if deadline.passed(search.iterations + len(actions)):
                break
        if blocked:
            search.doubt_actor()
        candidates = Candidates(np.stack(actions, axis=1), np.stack(latents, axis=1), np.stack(points, axis=1))
        scores = search.add(candidates, iterations=len(actions))
        own = np.zeros(1, dtype=np.intp)
        search.prefer(candidates.taken(own), scores.taken(own), config.override if self._fenced else 0.0)
        yield

    def _forced(self, problem: Problem, count: int, directions: int, keep_previous: bool, horizon: int, dim: int) -> F32:
        """Actions that some candidates must begin with: ``(N, horizon, A)``, NaN where the actor is free."""
        config = self._config
        forced = np.full((count, horizon, dim), np.nan, dtype=np.float32)
        if directions:
            way = self._rng.standard_normal((directions, dim))
            way[:, :2] /= np.linalg.norm(way[:, :2], axis=1, keepdims=True)
            way[:, 2:] = 0.0
            way *= self._rng.uniform(0.5, 1.1, (directions, 1))
            lengths = self._rng.integers(1, config.held + 1, directions)
            steps = np.arange(horizon)[None, :] < lengths[:, None]
            rows = slice(1 + config.samples, 1 + config.samples + directions)
            forced[rows] = np.where(steps[..., None], np.clip(way, -1.0, 1.0)[:, None], np.nan)
        if keep_previous and problem.previous is not None:
            kept = problem.previous[:horizon]
            forced[-1, : len(kept)] = kept
        return forced
