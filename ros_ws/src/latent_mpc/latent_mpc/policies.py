"""Who decides in a closed loop: the planner and its modes from pictures, and two references, the random policy and the oracle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from arm_model import ToolStep
from planner_node.assembly import MODES, PlannerConfig
from planner_node.controller import LatentController
from planner_node.guardrails.zone import Zone
from planner_node.plan import Plan
from planner_node.solvers.registry import SOLVERS
from planner_node.solvers.solver import Deadline
from sim.tasks import PicturedGoalEnv
from world_model.protocol import PlanningModel

REFERENCES = ("random", "oracle")
# Every solver is a policy; `planner` is the default one, along the actor.
POLICIES = (*MODES, *(name for name in SOLVERS if name not in MODES), *REFERENCES)


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
    return PlannerPolicy(model, env.task.tool_step, config, deadline_s, clock, delay)
