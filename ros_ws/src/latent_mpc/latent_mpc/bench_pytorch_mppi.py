"""pytorch_mppi's MPPI (Williams et al. 2017) as a contender: it steps the dynamics one action at a time."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from latent_mpc.bench_contenders import MissingPeerError, peer_version
from world_model.protocol import F32

PACKAGE = "pytorch-mppi"
_STD, _LAMBDA = 0.6, 0.3


class MppiRun:
    """MPPI with ``samples`` candidates in each of ``iterations``, ``horizon`` steps ahead; noise as wide and temperature as low as ours.

    ``step`` takes states ``(K, S)``, actions ``(K, A)`` and the number of the step; ``terminal`` gives a cost ``(K,)`` to last states ``(K, S)``.
    Both deal in tensors. ``bounded`` actions stay in [-1, 1].
    """

    def __init__(
        self,
        step: Callable[[Any, Any, int], Any],
        terminal: Callable[[Any], Any],
        state_dim: int,
        action_dim: int,
        samples: int,
        iterations: int,
        horizon: int,
        seed: int,
        bounded: bool = True,
    ) -> None:
        import torch

        peer_version(PACKAGE)
        try:
            kind = importlib.import_module("pytorch_mppi").MPPI
        except ImportError as error:
            raise MissingPeerError(f"{PACKAGE} cannot be imported ({error}); `make bench` installs what it needs") from error
        self._iterations, self._seed, self._torch = iterations, seed, torch
        self._still = torch.zeros(horizon, action_dim)
        bounds = {"u_min": -torch.ones(action_dim), "u_max": torch.ones(action_dim)} if bounded else {}
        self._mppi = kind(
            step,
            lambda state, action, number: torch.zeros(len(state)),
            state_dim,
            _STD**2 * torch.eye(action_dim),
            num_samples=samples,
            horizon=horizon,
            lambda_=_LAMBDA,
            terminal_state_cost=lambda states, actions: terminal(states[0, :, -1]),
            step_dependent_dynamics=True,
            U_init=self._still.clone(),
            **bounds,
        )

    def plan(self, state: F32) -> F32:
        """Its nominal actions ``(H, A)`` after all iterations from ``state (S,)``. Every plan is seeded alike and starts at rest."""
        torch = self._torch
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(self._seed)
            self._mppi.U = self._still.clone()
            for _ in range(self._iterations):
                self._mppi.command(torch.from_numpy(state), shift_nominal_trajectory=False)
            actions: F32 = self._mppi.U.numpy().astype(np.float32)
        return actions
