"""How far imagined latents are from those that came, with actions as they were taken and no look in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from world_model.jepa import Jepa
from world_model.predictors.action_prefix import ActionPrefixPredictor

_AT_ONCE = 256


@dataclass(frozen=True)
class OpenLoopError:
    """Mean squared error of a latent's numbers 1 to H steps ahead, over ``windows`` beginnings.

    ``model (H,)``: imagined from L true latents; ``copy (H,)``: of who says that nothing changes.
    """

    model: tuple[float, ...]
    copy: tuple[float, ...]
    windows: int

    @property
    def ratio(self) -> float:
        """Error of the model as a share of that of the copy, over all steps."""
        return sum(self.model) / max(sum(self.copy), 1e-12)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"model": list(self.model), "copy": list(self.copy), "windows": self.windows}


def longest_horizon(jepa: Jepa, steps: int, asked: int) -> int:
    """Most steps that episodes of ``steps`` actions and the predictor allow, at most ``asked``."""
    most = steps + 1 - jepa.predictor.history
    if isinstance(jepa.predictor, ActionPrefixPredictor):
        most = min(most, jepa.predictor.horizon)
    return min(most, asked)


@torch.inference_mode()
def open_loop_error(jepa: Jepa, latents: Tensor, actions: Tensor, horizon: int) -> OpenLoopError:
    """Errors from every place of episodes ``latents (E, T+1, D)``, ``actions (E, T, A)`` that has L latents up to it and ``horizon`` after it."""
    jepa.eval()
    history = jepa.predictor.history
    begins = latents.shape[1] - history - horizon + 1
    windows = latents.unfold(1, history + horizon, 1).transpose(2, 3).flatten(0, 1)
    taken = actions.unfold(1, history + horizon - 1, 1).transpose(2, 3).flatten(0, 1)
    model, copy = torch.zeros(horizon, dtype=torch.float64), torch.zeros(horizon, dtype=torch.float64)
    device = next(jepa.parameters()).device
    for begin in range(0, len(windows), _AT_ONCE):
        some, acts = (values[begin : begin + _AT_ONCE].to(device) for values in (windows, taken))
        true = some[:, history:]
        imagined = jepa.rollout(some[:, :history], acts[:, : history - 1], acts[:, history - 1 :])
        model += (imagined - true).square().mean(-1).sum(0).double().cpu()
        copy += (some[:, history - 1 : history] - true).square().mean(-1).sum(0).double().cpu()
    count = latents.shape[0] * begins
    return OpenLoopError(tuple((model / count).tolist()), tuple((copy / count).tolist()), count)
