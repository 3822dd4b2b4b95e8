"""The actor: hindsight imitation on the frozen latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from world_model.actor import GoalActor
from world_model.config import TrainConfig
from world_model.training.log import Report
from world_model.training.schedule import cosine_rate, set_rate

_CHECKED = 4096


@dataclass(frozen=True)
class HindsightBatch:
    """Frames of one episode as start and goal: ``latents``, ``goals (B, D)``, ``steps (B,) float32``, ``actions (B, A)``."""

    latents: Tensor
    goals: Tensor
    steps: Tensor
    actions: Tensor


def draw_hindsight(latents: Tensor, actions: Tensor, batch: int, most_steps: int, generator: torch.Generator) -> HindsightBatch:
    """Random starts and goals 1 to ``most_steps`` ahead in the same episode."""
    count, length = actions.shape[:2]
    episodes = torch.randint(count, (batch,), generator=generator)
    begin = torch.randint(length, (batch,), generator=generator)
    reach = (length - begin).clamp(max=most_steps)
    steps = 1 + (torch.rand(batch, generator=generator) * reach).long().clamp(max=most_steps - 1)
    steps = torch.minimum(steps, reach)
    device = latents.device
    episodes, begin, steps = episodes.to(device), begin.to(device), steps.to(device)
    return HindsightBatch(latents[episodes, begin], latents[episodes, begin + steps], steps.float(), actions[episodes, begin])


def train_actor(config: TrainConfig, actor: GoalActor, latents: Tensor, actions: Tensor, report: Report) -> None:
    """Which action was taken where, given what the scene became. The last ``held_out`` episodes validate."""
    settings = config.actor
    optimizer = torch.optim.AdamW(actor.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    generator = torch.Generator().manual_seed(config.seed + 2)
    torch.manual_seed(config.seed + 3)  # dropout
    train = len(latents) - config.held_out
    check = draw_hindsight(latents[train:], actions[train:], _CHECKED, settings.most_steps, torch.Generator().manual_seed(config.seed + 4))
    actor.train()
    for step in range(settings.steps):
        set_rate(optimizer, cosine_rate(step, settings.steps, settings.learning_rate, 100))
        pairs = draw_hindsight(latents[:train], actions[:train], settings.batch, settings.most_steps, generator)
        blur, goal_blur = (settings.noise * torch.randn(pairs.latents.shape, generator=generator).to(latents.device) for _ in range(2))
        loss = actor.negative_log_likelihood(pairs.latents + blur, pairs.goals + goal_blur, pairs.steps, pairs.actions).mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(actor.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 500 == 0 or step + 1 == settings.steps:
            actor.eval()
            with torch.inference_mode():
                held_out = float(actor.negative_log_likelihood(check.latents, check.goals, check.steps, check.actions).mean())
            actor.train()
            report("actor", step + 1, settings.steps, {"train": float(loss.detach()), "held out": held_out})
    actor.eval()
