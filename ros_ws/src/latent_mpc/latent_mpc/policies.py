"""Who decides in a closed loop: the planner and its modes from pictures, and two references, the random policy and the oracle."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from arm_model import ToolStep
from planner_node.assembly import MODES, PlannerConfig
from planner_node.controller import LatentController
from planner_node.guardrails.guardrail import sampled
from planner_node.guardrails.zone import Zone, ZoneGuardrail
from planner_node.plan import Plan
from planner_node.solvers.cem import CemConfig
from planner_node.solvers.registry import SOLVERS
from planner_node.solvers.solver import Deadline
from sim.tasks import PicturedGoalEnv
from world_model.protocol import PlanningModel

REFERENCES = ("random", "oracle")
# Every solver is a policy; `planner` is the default one, along the actor.
# The actor behind a filter of its actions alone is what guardrails in the search are compared with.
FILTERED = ("actor_stop", "actor_slide")
# The planner that is not told of what is forbidden: what it reaches is what the free scene allows.
UNTOLD = "planner_untold"
# CEM as large as latent world models publish it, 300 candidates, 30 times, 5 steps ahead, or 8 as ours is: on our model, however long it takes.
PUBLISHED = {
    "cem_300x30": CemConfig(samples=300, iterations=30, elites=30, horizon=5),
    "cem_300x30_h8": CemConfig(samples=300, iterations=30, elites=30, horizon=8),
}
POLICIES = (*MODES, *(name for name in SOLVERS if name not in MODES), *FILTERED, UNTOLD, *PUBLISHED, *REFERENCES)


@dataclass(frozen=True)
class Delay:
    """Decisions that take effect ``steps`` whole steps after the picture that they were made from; ``compensated``: the planner reckons with it."""

    steps: int = 0
    compensated: bool = True


AT_ONCE = Delay()


class Policy(Protocol):
    """Decides one action at a time."""

    def start(self, observation: dict[str, NDArray[Any]], steps: int, zones: Sequence[Zone]) -> None:
        """Begin an episode of ``steps`` actions whose goal picture is in ``observation``."""
        ...

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The next action ``(A,)``."""
        ...


class PlannerPolicy:
    """The controller of the planner node, without the node. ``plans`` are those of the episode so far."""

    def __init__(
        self,
        model: PlanningModel,
        tool_step: ToolStep,
        config: PlannerConfig,
        deadline_s: float,
        clock: Callable[[], float],
        delay: Delay = AT_ONCE,
    ) -> None:
        self._model = model
        self._deadline_s = deadline_s
        self._clock = clock
        self._delay = delay
        self._controller = LatentController(model, tool_step, config)
        self._now_s = 0.0
        self._running: list[NDArray[np.float32]] = []
        self.plans: list[Plan] = []

    def start(self, observation: dict[str, NDArray[Any]], steps: int, zones: Sequence[Zone]) -> None:
        """Encode the goal picture."""
        self._now_s, self.plans = 0.0, []
        self._running = [np.zeros(self._controller.meaning.action_dim, np.float32)] * self._delay.steps
        self._controller.start(self._model.encode(observation["goal"][None])[0], steps, zones)

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Encode, plan, and take the first action of the plan, or none if the plan is not feasible."""
        tool = observation["tool"].astype(np.float64)
        self._controller.see(self._now_s, self._model.encode(observation["image"][None], observation["joints"][None])[0], tool)
        begins = tool
        for action in self._running:
            begins = self._controller.meaning.advance(begins, action)
        left = tool if self._delay.compensated else begins
        plan = self._controller.plan(self._now_s, begins, Deadline.after(self._deadline_s, self._clock), left)
        self.plans.append(plan)
        self._now_s += self._controller.meaning.period_s
        self._running.append(plan.actions[0] if plan.feasible else np.zeros_like(plan.actions[0]))
        return self._running.pop(0)


class Untold:
    """A policy that never hears of zones."""

    def __init__(self, policy: PlannerPolicy) -> None:
        self._policy = policy

    def start(self, observation: dict[str, NDArray[Any]], steps: int, zones: Sequence[Zone]) -> None:
        """Begin as if there were no zones."""
        self._policy.start(observation, steps, ())

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """What the policy would do."""
        return self._policy.act(observation)


class StoppedActor:
    """The actor alone, with a filter that lets no action through whose straight step would miss the clearance: a stop in the place of a search."""

    def __init__(self, actor: PlannerPolicy, tool_step: ToolStep, clearance_m: float) -> None:
        self._actor = actor
        self._tool_step = tool_step
        self._clearance_m = clearance_m
        self._fences: list[ZoneGuardrail] = []

    def start(self, observation: dict[str, NDArray[Any]], steps: int, zones: Sequence[Zone]) -> None:
        """The actor is not told of zones; the filter is."""
        self._fences = [ZoneGuardrail(zone, self._clearance_m) for zone in zones]
        self._actor.start(observation, steps, ())

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The actor's action, or none."""
        action = self._actor.act(observation)
        tool = observation["tool"].astype(np.float64)
        path = sampled(np.stack([tool, self._tool_step.advance(tool, action)]))
        here = [min(0.0, float(fence.margins(tool[None])[0])) for fence in self._fences]
        safe = all(float(fence.margins(path).min()) >= least for fence, least in zip(self._fences, here, strict=True))
        return action if safe else np.zeros_like(action)


class RandomPolicy:
    """Uniform actions, seeded."""

    def __init__(self, action_dim: int, seed: int) -> None:
        self._action_dim = action_dim
        self._rng = np.random.default_rng(seed)

    def start(self, observation: dict[str, NDArray[Any]], steps: int, zones: Sequence[Zone]) -> None:
        """Nothing to prepare."""

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Any action."""
        return self._rng.uniform(-1.0, 1.0, self._action_dim).astype(np.float32)


class OraclePolicy:
    """The scripted teacher, which sees the true state: what the task allows at best."""

    def __init__(self, env: PicturedGoalEnv) -> None:
        self._env = env

    def start(self, observation: dict[str, NDArray[Any]], steps: int, zones: Sequence[Zone]) -> None:
        """Nothing to prepare."""

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The teacher's action."""
        assert self._env.episode is not None
        return self._env.task.teach(self._env.state(), self._env.episode).astype(np.float32)


def make_policy(
    name: str,
    env: PicturedGoalEnv,
    model: PlanningModel,
    config: PlannerConfig,
    deadline_s: float,
    seed: int,
    clock: Callable[[], float] = time.monotonic,
    delay: Delay = AT_ONCE,
) -> Policy:
    """The policy called ``name``, one of ``POLICIES``; ``clock`` is what a deadline is counted by."""
    if name == "random":
        return RandomPolicy(env.task.tool_step.action_dim, seed)
    if name == "oracle":
        return OraclePolicy(env)
    step = env.task.tool_step
    if name == "actor_stop":
        return StoppedActor(PlannerPolicy(model, step, replace(config, mode="actor"), deadline_s, clock, delay), step, config.clearance_m)
    if name == UNTOLD:
        return Untold(PlannerPolicy(model, step, replace(config, mode="planner", heads=(), guardrails=()), deadline_s, clock, delay))
    if name in PUBLISHED:
        return PlannerPolicy(model, step, replace(config, mode="cem", solvers={**config.solvers, "cem": PUBLISHED[name]}), math.inf, clock, delay)
    if name == "actor_slide":
        # The actor's own future, bent along the edges of zones, and nothing to choose from.
        config = replace(config, mode="actor_rollouts", solvers={**config.solvers, "actor_rollouts": {"samples": 0, "directions": 0, "rounding": 0}})
    return PlannerPolicy(model, step, config, deadline_s, clock, delay)
