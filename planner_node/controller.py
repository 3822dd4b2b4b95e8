"""Mode by mode, one decision after another: from a picture and a commanded tool point to a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from planner_node.action import ActionMeaning
from planner_node.assembly import PlannerConfig, build_solver
from planner_node.guardrails.zone import Zone
from planner_node.guardrails.zones_in_force import ZoneSet
from planner_node.history import History
from planner_node.plan import Plan, Problem
from planner_node.solvers.registry import solver_kind
from planner_node.solvers.solver import Deadline
from world_model.protocol import F32, PlanningModel

# Shares of a whole step: less is noise of the command, more than a few steps means that the arm was moved by something else.
_LEAST_RUNNING = 0.05
_MOST_RUNNING = 4

_WARM_UP_S = 10.0


class LatentController:
    """Receding horizon in latent space: it sees, remembers, plans, and carries the rest of each plan over to the next."""

    def __init__(self, model: PlanningModel, meaning: ActionMeaning, config: PlannerConfig) -> None:
        self.meaning = meaning
        self._model = model
        self._config = config
        self._history = History(model.history, meaning)
        self._solver = build_solver(model, meaning, (), config)
        self._goal: F32 | None = None
        self._steps = 0
        self._begun_s: float | None = None
        self._last: tuple[float, Plan] | None = None
        self._problem: Problem | None = None

    def warm_up(self, tool: NDArray[np.float64]) -> None:
        """Plan once for nothing, with the tool at ``tool (3,) m``: the first run of a graph is slow. Call ``start`` next."""
        nothing = np.zeros(self._model.latent_dim, dtype=np.float32)
        self.start(nothing, 2)
        self.see(0.0, nothing, tool)
        self.plan(0.0, tool, Deadline.after(_WARM_UP_S))

    def start(self, goal: F32, steps: int, zones: Sequence[Zone] = ()) -> None:
        """Begin an episode towards ``goal (D,)`` that may take ``steps`` actions. The search is seeded anew."""
        self._solver = build_solver(self._model, self.meaning, zones, self._config)
        self._history.clear()
        self._goal, self._steps, self._begun_s, self._last = goal, steps, None, None

    @property
    def sees_zones(self) -> bool:
        """Whether its solver keeps out of zones at all: the actor alone knows none."""
        return solver_kind(self._config.solver).sees_zones

    def fence(self, fences: ZoneSet) -> None:
        """Keep the tool out of ``fences`` from now on, and of no others; the episode goes on."""
        config = replace(self._config, guardrails=(*self._config.guardrails, *fences.solids))
        self._solver = build_solver(self._model, self.meaning, fences.zones, config)

    def distance(self, latent: F32) -> float:
        """Steps that the critic sees between ``latent (D,)`` and the goal.

        Raises:
            ValueError: no goal was shown.
        """
        if self._goal is None:
            raise ValueError("a distance needs a goal picture")
        return float(self._model.distance(latent[None], self._goal)[0])

    def see(self, stamp_s: float, latent: F32, tool: NDArray[np.float64]) -> None:
        """Take in a frame's ``latent (D,)`` and the commanded ``tool (3,) m`` at its time.

        Raises:
            ValueError: the frame is not newer than the last one, or not finite.
        """
        self._history.add(stamp_s, latent, tool)
        if self._begun_s is None:
            self._begun_s = stamp_s

    def steps_left(self, stamp_s: float) -> float:
        """Actions left at ``stamp_s``; 0 when the episode is over."""
        begun = stamp_s if self._begun_s is None else self._begun_s
        # Rounded, because stamps since the epoch are: a search must not look one step beyond the end for a microsecond.
        return max(0.0, round(self._steps - (stamp_s - begun) / self.meaning.period_s, 3))

    def plan(self, stamp_s: float, tool: NDArray[np.float64], deadline: Deadline, left: NDArray[np.float64] | None = None) -> Plan:
        """The best plan from the newest frame on, with the commanded tool at ``tool (3,) m`` when the plan begins.

        ``left (3,) m`` is where it was commanded to be when the frame was taken. The latent is rolled through the motion between the two, which
        runs while the planner thinks, in as many model steps as it needs.

        Raises:
            ValueError: nothing was seen yet, or no goal was shown.
        """
        if self._goal is None or len(self._history) == 0:
            raise ValueError("a plan needs a goal picture and at least one frame")
        context = self._history.context()
        running = [] if left is None else self._running(left, tool)
        if running:
            actions = np.stack(running)[None]
            context = context.after(actions, self._model.rollout(context, actions))
        # What still runs takes its time from the episode: as much as it would at full speed, for slower motion at least so much.
        steps_left = self.steps_left(stamp_s) - sum(float(np.abs(action).max()) for action in running)
        problem = Problem(context, self._goal, tool, max(steps_left, 1.0), self._previous(stamp_s))
        plan = self._solver.plan(problem, deadline)
        self._last, self._problem = (stamp_s, plan), problem
        return plan

    def sound(self, choice: Plan) -> Plan:
        """``choice``: the newest plan, or one of its runners-up once it was looked at as closely.

        Raises:
            RefusedPlanError: it does not stand a second look.
        """
        if self._last is not None and self._problem is not None and choice.actions is not self._last[1].actions:
            self._solver.check(self._problem, choice)
        return choice

    def _running(self, left: NDArray[np.float64], tool: NDArray[np.float64]) -> list[F32]:
        """The actions ``(A,)`` in which the tool goes from ``left`` to ``tool``; none where the motion is too small to matter."""
        running: list[F32] = []
        here = left
        while len(running) < _MOST_RUNNING and float(np.abs(action := self.meaning.between(here, tool)).max()) > _LEAST_RUNNING:
            running.append(action)
            here = self.meaning.advance(here, action)
        return running

    def _previous(self, stamp_s: float) -> F32 | None:
        if self._last is None:
            return None
        made_s, plan = self._last
        gone = round((stamp_s - made_s) / self.meaning.period_s)
        return plan.actions[gone:] if 0 <= gone < len(plan.actions) else None
