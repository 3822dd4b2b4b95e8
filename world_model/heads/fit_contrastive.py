"""Contrastive successor distances (Myers, Zheng, Dragan, Levine, Eysenbach 2024, arXiv 2406.17098).

With C(s, g) the discounted chance of coming from s to g, ``d(s, g) = log C(g, g) - log C(s, g)`` is a quasi-metric. It is learned in one go: InfoNCE,
both ways, over pairs (z_t, z_{t+k}) with geometric k, with the critic ``f(s, g) = c(g) - d(s, g)``, d a metric residual network, c a free
potential. InfoNCE's optimum is ``f = log C(s, g) - log p(g) + const``, so that d is the successor distance and c takes up the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from world_model.config import DistanceConfig
from world_model.heads.distance_schedule import set_rate
from world_model.heads.fit_qrl import scale_to_data
from world_model.heads.quasimetric import QuasimetricHead
from world_model.heads.report import Report

# All pairs of a batch are compared: its square counts.
_MOST_BATCH = 128


def geometric_steps(room: Tensor, discount: float, generator: torch.Generator) -> Tensor:
    """Steps ``k (N,)`` from 1 to ``room (N,)`` with chance proportional to ``discount^(k-1)``: the geometric law, cut off and renormalised."""
    chance = torch.rand(room.shape, generator=generator).to(room.device) * (1.0 - discount ** room.float())
    steps = torch.floor(torch.log1p(-chance) / torch.log(torch.tensor(discount))) + 1.0
    return torch.minimum(steps.long(), room)


def info_nce(logits: Tensor) -> Tensor:
    """Cross-entropy of finding the true partner, rows and columns, ``logits (B, B)`` with the true pairs on the diagonal."""
    own = torch.arange(len(logits), device=logits.device)
    return 0.5 * (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own))


def fit_contrastive(config: DistanceConfig, head: QuasimetricHead, latents: Tensor, generator: torch.Generator, report: Report) -> None:
    """Fit on episodes ``latents (E, T+1, D)``; at the end the head is scaled to the pace of the data."""
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        potential = nn.Sequential(nn.Linear(latents.shape[2], config.width), nn.GELU(), nn.Linear(config.width, 1)).to(latents.device)
    optimizer = torch.optim.AdamW([*head.parameters(), *potential.parameters()], config.learning_rate)
    episodes_held, length = latents.shape[:2]
    batch = min(config.batch, _MOST_BATCH)
    for step in range(config.steps):
        set_rate(optimizer, step, config.steps, config.learning_rate)
        episodes = torch.randint(episodes_held, (batch,), generator=generator).to(latents.device)
        begins = torch.randint(length - 1, (batch,), generator=generator).to(latents.device)
        ends = begins + geometric_steps(length - 1 - begins, config.discount, generator)
        goals = latents[episodes, ends]
        first, second = head.embed(latents[episodes, begins]), head.embed(goals)
        loss = info_nce(potential(goals)[:, 0][None] - head.between(first[:, None], second[None]))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        if (step + 1) % 500 == 0 or step + 1 == config.steps:
            report("distance head", step + 1, config.steps, {"loss": float(loss.detach())})
    scale_to_data(head, latents, generator)
