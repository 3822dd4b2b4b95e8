"""Peers and our solvers on the same problems: the shipped bundle's dynamics and cost, first frames of a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from latent_mpc import bench_pytorch_mppi, bench_stable_worldmodel
from latent_mpc.bench_contenders import OURS, Contender, peer_version
from latent_mpc.bench_pytorch_mppi import MppiRun
from latent_mpc.bench_stable_worldmodel import SolverRun
from planner_node.action import PlainAction
from planner_node.critics.registry import Sources, build_critics
from planner_node.objective import Objective
from planner_node.plan import Candidates, Problem
from planner_node.solvers.cem import Cem, CemConfig
from planner_node.solvers.icem import Icem, IcemConfig
from planner_node.solvers.mppi import Mppi, MppiConfig
from planner_node.solvers.registry import SOLVERS
from planner_node.solvers.search import Imagination
from planner_node.solvers.solver import AnytimeSolver, Deadline, Strategy
from world_model.protocol import F32, Context, PlanningModel


class OwnDynamics:
    """What all solvers minimise: the cost of a search without the actor, its last step judged, on ``problems``. No guardrail judges anything here."""

    def __init__(self, model: PlanningModel, firsts: Sequence[tuple[Context, F32]], samples: int, iterations: int, horizon: int, seed: int) -> None:
        """``firsts``: context of one row and the goal's latent ``(D,)`` of each problem."""
        self._model, self._seed = model, seed
        self._sizes = (samples, iterations, horizon)
        self._objective = Objective(build_critics(SOLVERS["cem"].critics, Sources(model, model)), [])
        self._problems = [Problem(context, goal, np.zeros(model.action_dim), float(horizon)) for context, goal in firsts]
        self._now = self._problems[0]

    def __len__(self) -> int:
        """How many problems there are."""
        return len(self._problems)

    def cost(self, problem: int, actions: F32) -> float:
        """What the plan ``(H, A)`` of a problem costs; actions are clipped to [-1, 1], which is what an arm would do."""
        return float(self._costs(self._problems[problem], actions[None])[0])

    def contenders(self, version: str) -> list[Contender]:
        """Our CEM, iCEM and MPPI: as many candidates, steps and iterations as the peers get, all else as it ships."""
        samples, iterations, horizon = self._sizes
        elites = max(2, samples // 10)
        strategies: dict[str, Callable[[np.random.Generator], Strategy]] = {
            "CEM": lambda rng: Cem(CemConfig(samples, iterations, elites, horizon), rng),
            "iCEM": lambda rng: Icem(IcemConfig(samples, iterations, elites, horizon, shrink=1.0), rng),
            "MPPI": lambda rng: Mppi(MppiConfig(samples, iterations, horizon), rng),
        }
        return [Contender(name, OURS, version, self._own(name, strategy)) for name, strategy in strategies.items()]

    def theirs(self, solver: str) -> Contender:
        """A solver of stable-worldmodel, our model behind its protocol."""
        run = SolverRun(solver, _Costable(self), *self._sizes, self._model.action_dim, 1, self._seed)

        def plan(problem: int) -> F32:
            import torch

            self._now = self._problems[problem]
            return run.plan({"problem": torch.zeros(1, 1)})

        return Contender(solver, bench_stable_worldmodel.PACKAGE, peer_version(bench_stable_worldmodel.PACKAGE), plan)

    def mppi(self) -> Contender:
        """pytorch_mppi, our model behind its step function."""
        import torch

        model = self._model
        length, dim, action_dim = model.history, model.latent_dim, model.action_dim
        split = length * dim

        def step(states: Any, actions: Any, number: int) -> Any:
            rows = states.numpy()
            context = Context(rows[:, :split].reshape(-1, length, dim), rows[:, split:].reshape(-1, length - 1, action_dim))
            chosen = actions.numpy()
            after = context.extended(chosen, model.rollout(context, chosen[:, None])[:, 0])
            flat = [values.reshape(len(values), -1) for values in (after.latents, after.actions)]
            return torch.from_numpy(np.concatenate(flat, 1))

        def terminal(states: Any) -> Any:
            last = states.numpy()[:, split - dim : split]
            return torch.from_numpy(self._judged(self._now, np.zeros((len(last), 1, action_dim), np.float32), last[:, None]).astype(np.float32))

        run = MppiRun(step, terminal, split + (length - 1) * action_dim, action_dim, *self._sizes, self._seed)

        def plan(problem: int) -> F32:
            self._now = self._problems[problem]
            return run.plan(np.concatenate([self._now.context.latents.ravel(), self._now.context.actions.ravel()]))

        return Contender("MPPI", bench_pytorch_mppi.PACKAGE, peer_version(bench_pytorch_mppi.PACKAGE), plan)

    def present(self, candidates: F32) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Costs ``(N,)`` of ``candidates (N, H, A)`` for the problem that is being solved."""
        return self._costs(self._now, candidates)

    def _own(self, name: str, strategy: Callable[[np.random.Generator], Strategy]) -> Callable[[int], F32]:
        imagination = Imagination(self._model, PlainAction(self._model.action_dim), self._objective)

        def plan(problem: int) -> F32:
            solver = AnytimeSolver(name, strategy(np.random.default_rng(self._seed)), imagination)
            return solver.plan(self._problems[problem], Deadline.counted(None)).actions

        return plan

    def _costs(self, problem: Problem, actions: F32) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        bounded = np.clip(actions, -1.0, 1.0).astype(np.float32)
        return self._judged(problem, bounded, self._model.rollout(problem.context.repeated(len(bounded)), bounded))

    def _judged(self, problem: Problem, actions: F32, latents: F32) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        points = np.zeros((len(actions), actions.shape[1] + 1, actions.shape[2]))
        return self._objective.score(problem, Candidates(actions, latents, points)).cost


class _Costable:
    """Our cost behind stable-worldmodel's protocol."""

    def __init__(self, own: OwnDynamics) -> None:
        self._own = own

    def get_cost(self, info: dict[str, Any], candidates: Any) -> Any:
        """Costs ``(1, S)`` of ``candidates (1, S, H, A)``."""
        import torch

        return torch.from_numpy(self._own.present(candidates[0].numpy()).astype(np.float32))[None]
