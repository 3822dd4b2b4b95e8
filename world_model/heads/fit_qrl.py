"""Quasi-metric reinforcement learning (QRL: Wang, Torralba, Isola, Zhang 2023, arXiv 2304.01203).

The optimal number of steps is the *largest* quasi-metric that never says more than 1 for one step: over a quasi-metric d,
``max_d E_{s, g}[phi(d(s, g))]`` subject to ``E_{s -> s'}[relu(d(s, s') - 1)^2] <= slack^2``, s and g drawn independently, s -> s' one recorded step.
The constraint is met by a dual variable lambda >= 0: ``min_d max_lambda -E[phi(d)] + lambda (E[relu(d(s, s') - 1)^2] - slack^2)``.
As in the paper ``phi(x) = -softplus_beta(offset - x)`` grows ever slower, so that pairs that are far apart anyhow do not take all the weight.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from world_model.config import DistanceConfig
from world_model.heads.distance_schedule import draw_pairs, set_rate, steps_per_unit
from world_model.heads.quasimetric import QuasimetricHead
from world_model.heads.report import Report

_OFFSET, _BETA = 30.0, 0.1
_DUAL_START, _DUAL_RATE = 10.0, 5e-2
_SCALED_PAIRS = 4096


def spread(distances: Tensor) -> Tensor:
    """``phi`` of ``distances (...)``, the mean: what is maximised."""
    gained: Tensor = -functional.softplus(_OFFSET - distances, beta=_BETA).mean()
    return gained


def excess(distances: Tensor, slack: float) -> Tensor:
    """How far one-step ``distances (...)`` violate the constraint, on average; at most 0 where it holds."""
    violated: Tensor = (torch.relu(distances - 1.0) ** 2).mean() - slack**2
    return violated


def fit_qrl(config: DistanceConfig, head: QuasimetricHead, latents: Tensor, generator: torch.Generator, report: Report) -> None:
    """Fit on episodes ``latents (E, T+1, D)``; at the end the head is scaled to the pace of the data."""
    optimizer = torch.optim.AdamW(head.parameters(), config.learning_rate)
    dual = torch.tensor(_DUAL_START, device=latents.device).expm1().log().requires_grad_()  # softplus of it is lambda
    dual_optimizer = torch.optim.Adam([dual], _DUAL_RATE)
    episodes_held, length = latents.shape[:2]
    flat = latents.flatten(0, 1)
    for step in range(config.steps):
        set_rate(optimizer, step, config.steps, config.learning_rate)
        far, goals = flat[torch.randint(len(flat), (2, config.batch), generator=generator).to(latents.device)]
        episodes = torch.randint(episodes_held, (config.batch,), generator=generator).to(latents.device)
        begins = torch.randint(length - 1, (config.batch,), generator=generator).to(latents.device)
        violated = excess(head(latents[episodes, begins], latents[episodes, begins + 1]), config.slack)
        gained = spread(head(far, goals))
        price = functional.softplus(dual)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(price.detach() * violated - gained)
        optimizer.step()
        dual_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(-price * violated.detach())
        dual_optimizer.step()
        if (step + 1) % 500 == 0 or step + 1 == config.steps:
            report(
                "distance head",
                step + 1,
                config.steps,
                {"spread": float(gained.detach()), "excess": float(violated.detach()), "dual": float(price.detach())},
            )
    scale_to_data(head, latents, generator)


@torch.no_grad()
def scale_to_data(head: QuasimetricHead, latents: Tensor, generator: torch.Generator) -> None:
    """Bring the head to steps at the pace of the data, as the planner's clocks count: least squares over pairs in their recorded order."""
    first, second, steps = draw_pairs(latents, _SCALED_PAIRS, generator)
    forward = steps > 0
    head.steps_per_unit.copy_(steps_per_unit(head(first[forward], second[forward]), steps[forward]))
