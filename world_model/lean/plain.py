"""A LeWorldModel's rollout as its authors write it, layer by layer: the yardstick, in time and in numbers, of the one that does less."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from world_model.lean.layer import gelu
from world_model.lean.weights import LewmShape, shape_of


class PlainLewmRollout(nn.Module):
    """Each of the H steps runs the whole predictor over its window of up to L frames, and keeps what the last token says."""

    def __init__(self, weights: Mapping[str, Tensor], horizon: int, head_width: int = 64) -> None:
        super().__init__()
        self.shape: LewmShape = shape_of(weights, head_width)
        self.horizon = horizon
        self.weights = nn.ParameterDict({name.replace(".", "/"): nn.Parameter(weights[name], requires_grad=False) for name in self.shape.expected()})

    def forward(self, context: Tensor, past_actions: Tensor, actions: Tensor, goal: Tensor) -> Tensor:
        """Costs ``(N,)`` of ``actions (N, H, A)``: squared distance of the last imagined latent to ``goal (D,)``, summed.

        ``context (C, D)`` are the C latents that were seen, with ``past_actions (C-1, A)`` between them.
        """
        count, seen = actions.shape[0], context.shape[0]
        conditions = self._conditions(torch.cat([past_actions.expand(count, -1, -1), actions], dim=1))
        latents = [context[place].expand(count, -1) for place in range(seen)]
        for step in range(self.horizon):
            begin = max(0, seen + step - self.shape.frames)
            latents.append(self._predict(torch.stack(latents[begin:], dim=1), conditions[:, begin : seen + step]))
        return (latents[-1] - goal).square().sum(dim=-1)

    def _of(self, name: str) -> Tensor:
        value: Tensor = self.weights[name.replace(".", "/")]
        return value

    def _linear(self, values: Tensor, name: str) -> Tensor:
        return functional.linear(values, self._of(f"{name}.weight"), self._of(f"{name}.bias"))

    def _norm(self, values: Tensor, name: str) -> Tensor:
        return functional.layer_norm(values, values.shape[-1:], self._of(f"{name}.weight"), self._of(f"{name}.bias"))

    def _conditions(self, actions: Tensor) -> Tensor:
        smoothed = functional.linear(actions, self._of("action_encoder.patch_embed.weight")[:, :, 0], self._of("action_encoder.patch_embed.bias"))
        return self._linear(functional.silu(self._linear(smoothed, "action_encoder.embed.0")), "action_encoder.embed.2")

    def _predict(self, window: Tensor, conditions: Tensor) -> Tensor:
        """The latent ``(N, D)`` after a ``window (N, T, D)``, T at most L, under ``conditions (N, T, D)``."""
        shape = self.shape
        count, length, width = window.shape
        hidden = window + self._of("predictor.pos_embedding")[:, :length]
        for layer in range(shape.depth):
            name = f"predictor.transformer.layers.{layer}"
            shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self._linear(functional.silu(conditions), f"{name}.adaLN_modulation.1").chunk(6, -1)
            normal = functional.layer_norm(hidden, (width,), eps=1e-6) * (1 + scale) + shift
            projected = functional.linear(self._norm(normal, f"{name}.attn.norm"), self._of(f"{name}.attn.to_qkv.weight"))
            query, key, value = projected.reshape(count, length, 3, shape.heads, shape.head_width).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).reshape(count, length, shape.inner)
            hidden = hidden + gate * self._linear(mixed, f"{name}.attn.to_out.0")
            normal = functional.layer_norm(hidden, (width,), eps=1e-6) * (1 + mlp_scale) + mlp_shift
            inside = gelu(self._linear(self._norm(normal, f"{name}.mlp.net.0"), f"{name}.mlp.net.1"))
            hidden = hidden + mlp_gate * self._linear(inside, f"{name}.mlp.net.4")
        token = self._norm(hidden, "predictor.transformer.norm")
        if shape.projection:
            name = "pred_proj.net.1"
            inside = self._linear(token, "pred_proj.net.0").flatten(0, 1)
            inside = functional.batch_norm(
                inside, self._of(f"{name}.running_mean"), self._of(f"{name}.running_var"), self._of(f"{name}.weight"), self._of(f"{name}.bias")
            )
            token = self._linear(gelu(inside), "pred_proj.net.3").reshape(count, length, width)
        return token[:, -1]
