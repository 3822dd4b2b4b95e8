"""Plans with a LeWM-shaped model of random weights: stable-worldmodel and pytorch_mppi as they are, and our search on the same weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc import bench_pytorch_mppi, bench_stable_worldmodel
from latent_mpc.bench_contenders import OURS, Contender, peer_version
from latent_mpc.bench_pytorch_mppi import MppiRun
from latent_mpc.bench_stable_worldmodel import BLOCK, LATENT, SolverRun, random_info
from planner_node.action import PlainAction
from planner_node.objective import Objective
from planner_node.plan import Candidates, Problem
from planner_node.solvers.cem import Cem, CemConfig
from planner_node.solvers.search import Imagination
from planner_node.solvers.solver import AnytimeSolver, Deadline
from world_model.protocol import F32, Context

# What is now (D,), the goal (D,) and candidates (N, H, A), all float32, to costs (N,): the last imagined latent's squared distance to the goal.
Costs = Callable[[F32, F32, F32], F32]
ACTION = 2 * BLOCK


@dataclass(frozen=True)
class CostsEntry:
    """A way to work out the costs that stable-worldmodel's LeWM gives: ``make(lewm, horizon)`` makes it of that package's module.

    ``approximate``: it may differ by more than rounding.
    """

    name: str
    make: Callable[[Any, int], Costs]
    approximate: bool = False


def their_rollout(lewm: Any, horizon: int) -> Costs:
    """stable-worldmodel's own rollout, behind our search."""
    import torch

    def costs(now: F32, goal: F32, actions: F32) -> F32:
        with torch.inference_mode():
            latents = torch.from_numpy(now).expand(len(actions), 1, LATENT)
            info = {"pixels": torch.zeros(1, len(actions), 1), "emb": latents[None]}
            last = lewm.rollout(info, torch.from_numpy(actions)[None])["predicted_emb"][0, :, -1]
            found: F32 = ((last - torch.from_numpy(goal)) ** 2).sum(-1).numpy()
        return found

    return costs


def lean(arithmetic: str) -> Callable[[Any, int], Costs]:
    """The same weights with less arithmetic (``world_model.lean``): ``exact`` or ``int8``."""

    def make(lewm: Any, horizon: int) -> Costs:
        rollout = importlib.import_module("world_model.lean").lewm_rollout(lewm.state_dict(), horizon, arithmetic=arithmetic)
        past = np.zeros((0, ACTION), np.float32)
        return lambda now, goal, actions: np.asarray(rollout.costs(now[None], past, actions, goal), np.float32)

    return make


# THE PLACE TO ADD ONE. Our CEM searches with each; one that cannot be made is left out, and said.
CONTENDERS: list[CostsEntry] = [
    CostsEntry("CEM, their rollout", their_rollout),
    CostsEntry("CEM, exact reuse", lean("exact")),
    CostsEntry("CEM, exact reuse, int8", lean("int8"), approximate=True),
]


@dataclass
class CostModel:
    """A ``WorldModel`` whose only latent is the cost itself, so that our search can run on costs that come from elsewhere."""

    costs: Callable[[F32], F32]
    history: int = 1
    latent_dim: int = 1
    action_dim: int = ACTION

    def encode(self, frames: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        """Nothing: there are no pictures."""
        raise NotImplementedError

    def rollout(self, context: Context, actions: F32) -> F32:
        """The cost of each of ``actions (N, H, A)``, at every step: ``(N, H, 1)``."""
        return np.repeat(self.costs(actions)[:, None, None], actions.shape[1], 1)


@dataclass(frozen=True)
class CostItself:
    """The critic of a ``CostModel``."""

    weight: float = 1.0
    name: str = "cost"

    def cost(self, problem: Problem, candidates: Candidates) -> NDArray[np.floating]:
        """``(N,)``: what the last step's latent says."""
        last: NDArray[np.floating] = candidates.latents[:, -1, 0]
        return last


class LewmBench:
    """Problems of noise for one LeWM-shaped model, solved with ``samples`` x ``iterations``, ``horizon`` steps ahead."""

    def __init__(self, lewm: Any, samples: int, iterations: int, horizon: int, seed: int) -> None:
        self._lewm, self._seed = lewm, seed
        self._sizes = (samples, iterations, horizon)

    def theirs(self, solver: str) -> Contender:
        """A solver of stable-worldmodel with its LeWM, pictures in, as that package runs it."""
        run = SolverRun(solver, self._lewm, *self._sizes, 2, BLOCK, self._seed)
        version = peer_version(bench_stable_worldmodel.PACKAGE)
        return Contender(f"{solver} + LeWM", bench_stable_worldmodel.PACKAGE, version, lambda problem: run.plan(random_info(problem)))

    def mppi(self) -> Contender:
        """pytorch_mppi, stepping the same weights with the same window, pictures in."""
        import torch

        lewm = self._lewm
        history = int(lewm.predictor.num_frames)
        past = history - 1

        def step(states: Any, actions: Any, number: int) -> Any:
            # A state is the last latents and the actions between them, oldest first; the first steps have seen less than a full window.
            seen = min(number + 1, history)
            latents = states[:, : history * LATENT].reshape(-1, history, LATENT)
            window = torch.cat([states[:, history * LATENT :].reshape(-1, past, ACTION), actions[:, None]], 1)
            after = lewm.predict(latents[:, -seen:], lewm.action_encoder(window[:, -seen:]))[:, -1:]
            return torch.cat([torch.cat([latents[:, 1:], after], 1).flatten(1), window[:, 1:].flatten(1)], 1)

        goal = torch.zeros(LATENT)
        state_dim = history * LATENT + past * ACTION
        run = MppiRun(
            step,
            lambda states: ((states[:, (history - 1) * LATENT : history * LATENT] - goal) ** 2).sum(-1),
            state_dim,
            ACTION,
            *self._sizes,
            self._seed,
            bounded=False,
        )

        def plan(problem: int) -> F32:
            now, aim = self._latents(problem)
            goal.copy_(torch.from_numpy(aim))
            state = np.zeros(state_dim, np.float32)
            state[(history - 1) * LATENT : history * LATENT] = now
            return run.plan(state)

        return Contender("MPPI, LeWM step by step", bench_pytorch_mppi.PACKAGE, peer_version(bench_pytorch_mppi.PACKAGE), plan)

    def ours(self, entry: CostsEntry, version: str) -> Contender:
        """Our CEM with one of ``CONTENDERS``, pictures in.

        Raises:
            ImportError: it is not there.
        """
        samples, iterations, horizon = self._sizes
        costs = entry.make(self._lewm, horizon)

        def plan(problem: int) -> F32:
            now, aim = self._latents(problem)
            imagination = Imagination(CostModel(lambda actions: costs(now, aim, actions)), PlainAction(ACTION), Objective([CostItself()], []))
            config = CemConfig(samples, iterations, max(2, samples // 10), horizon)
            solver = AnytimeSolver("cem", Cem(config, np.random.default_rng(self._seed)), imagination)
            context = Context(np.zeros((1, 1, 1), np.float32), np.zeros((1, 0, ACTION), np.float32))
            return solver.plan(Problem(context, np.zeros(1, np.float32), np.zeros(ACTION), float(horizon)), Deadline.counted(None)).actions

        return Contender(entry.name, OURS, version, plan)

    def difference(self, entry: CostsEntry) -> float:
        """The largest difference of a contender's costs from stable-worldmodel's, over the largest cost, for candidates of noise."""
        import torch

        samples, _, horizon = self._sizes
        now, aim = self._latents(0)
        actions = np.random.default_rng(self._seed).standard_normal((samples, horizon, ACTION)).astype(np.float32)
        own = entry.make(self._lewm, horizon)(now, aim, actions)
        with torch.inference_mode():
            info = {name: value[:, None].expand(-1, samples, *value.shape[1:]) for name, value in random_info(0).items()}
            theirs = self._lewm.get_cost(info, torch.from_numpy(actions)[None])[0].numpy()
        return float(np.abs(own - theirs).max() / np.abs(theirs).max())

    def _latents(self, problem: int) -> tuple[F32, F32]:
        """Picture and goal of a problem as latents ``(D,)``."""
        import torch

        info = random_info(problem)
        with torch.inference_mode():
            found = [self._lewm.encode({"pixels": info[name]})["emb"][0, 0].numpy() for name in ("pixels", "goal")]
        return found[0], found[1]
