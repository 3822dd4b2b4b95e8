"""A LeWorldModel's rollout with nothing worked out twice: the same numbers from 1.75 times fewer multiplications at H = 5.

While the window grows, tokens stay; afterwards its oldest token, the last layer and the modulation still save (:mod:`world_model.lean.layer`).
Batch normalisation folds into the matrix before it. Context and goal are one row, not N.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from world_model.lean.layer import Folded, LayerMatrices, Looked, Modulation, ReusingLayer, gelu, norm, token_through
from world_model.lean.weights import LewmShape, shape_of

_EPS, _AFFINE_EPS = 1e-6, 1e-5


def layer_matrices(weights: Mapping[str, Tensor], layer: int, shape: LewmShape) -> LayerMatrices:
    """The matrices of one block: the norms before attention and MLP are affine, and come after the modulation."""

    def of(key: str) -> Tensor:
        return weights[f"predictor.transformer.layers.{layer}.{key}"].double()

    affine, lift = of("attn.norm.weight"), of("attn.norm.bias")
    query, key, value = of("attn.to_qkv.weight").chunk(3)
    enter = of("mlp.net.1.weight")
    return LayerMatrices(
        query=query * affine,
        query_bias=query @ lift,
        key=key * affine,
        value=value * affine,
        value_bias=value @ lift,
        out=of("attn.to_out.0.weight"),
        out_bias=of("attn.to_out.0.bias"),
        enter=enter * of("mlp.net.0.weight"),
        enter_bias=of("mlp.net.1.bias") + enter @ of("mlp.net.0.bias"),
        leave=of("mlp.net.4.weight"),
        leave_bias=of("mlp.net.4.bias"),
        steer=of("adaLN_modulation.1.weight"),
        steer_bias=of("adaLN_modulation.1.bias"),
        heads=shape.heads,
        eps=_EPS,
        second_norm=_AFFINE_EPS,
    )


class ExactLewmRollout(nn.Module):
    """H steps of a LeWorldModel and their costs.

    Args:
        weights: its state dict; picture encoder and projector may be among them.
        horizon: H.
        head_width: width of one head of attention, which weights do not tell.

    Raises:
        LewmWeightsError: they are not those of a LeWorldModel.
    """

    places: Tensor

    def __init__(self, weights: Mapping[str, Tensor], horizon: int, head_width: int = 64) -> None:
        super().__init__()
        self.shape = shape = shape_of(weights, head_width)
        self.horizon = horizon

        def of(name: str) -> Tensor:
            return weights[name].double()

        self.register_buffer("places", of("predictor.pos_embedding")[0].float())
        smooth = of("action_encoder.patch_embed.weight")[:, :, 0]
        first = of("action_encoder.embed.0.weight")
        self.act = Folded(first @ smooth, first @ of("action_encoder.patch_embed.bias") + of("action_encoder.embed.0.bias"))
        self.condition = Folded(of("action_encoder.embed.2.weight"), of("action_encoder.embed.2.bias"))
        self.layers = nn.ModuleList(ReusingLayer(layer_matrices(weights, layer, shape)) for layer in range(shape.depth))
        affine, lift = of("predictor.transformer.norm.weight"), of("predictor.transformer.norm.bias")
        if not shape.projection:
            self.project, self.land = Folded(torch.diag(affine), lift), None
            return
        spread = of("pred_proj.net.1.weight") / (of("pred_proj.net.1.running_var") + _AFFINE_EPS).sqrt()
        matrix = of("pred_proj.net.0.weight")
        offset = spread * (of("pred_proj.net.0.bias") + matrix @ lift - of("pred_proj.net.1.running_mean")) + of("pred_proj.net.1.bias")
        self.project = Folded(spread[:, None] * matrix * affine, offset)
        self.land = Folded(of("pred_proj.net.3.weight"), of("pred_proj.net.3.bias"))

    def forward(self, context: Tensor, past_actions: Tensor, actions: Tensor, goal: Tensor) -> Tensor:
        """Costs ``(N,)`` of ``actions (N, H, A)``: squared distance of the last imagined latent to ``goal (D,)``, summed.

        ``context (C, D)`` are the C <= L latents that were seen, with ``past_actions (C-1, A)`` between them.
        """
        return (self.imagine(context, past_actions, actions)[-1] - goal).square().sum(dim=-1)

    def imagine(self, context: Tensor, past_actions: Tensor, actions: Tensor) -> list[Tensor]:
        """The H imagined latents, ``(N, D)`` each."""
        seen = context.shape[0]
        taken = [past_actions[place : place + 1] for place in range(seen - 1)] + [actions[:, step] for step in range(self.horizon)]
        latents = [context[place : place + 1] for place in range(seen)]
        modulations = [self._modulations(action) for action in taken]
        grown: list[list[Looked]] = [[] for _ in self.layers]
        for place in range(min(seen - 1, self.shape.frames)):
            token_through(self.layers, latents[place] + self.places[place], modulations[place], grown, needed=False)
        for newest in range(seen - 1, seen - 1 + self.horizon):
            oldest = max(0, newest + 1 - self.shape.frames)
            window = grown if oldest == 0 else [[] for _ in self.layers]
            for frame in range(newest if oldest == 0 else oldest, newest + 1):
                token = token_through(self.layers, latents[frame] + self.places[frame - oldest], modulations[frame], window, needed=frame == newest)
            latents.append(self._latent(token))
        return latents[seen:]

    def _modulations(self, action: Tensor) -> list[Modulation]:
        condition = functional.silu(self.condition(functional.silu(self.act(action))))
        return [layer.modulation(condition) for layer in self.layers if isinstance(layer, ReusingLayer)]

    def _latent(self, token: Tensor) -> Tensor:
        values = self.project(norm(token, _AFFINE_EPS))
        latent: Tensor = values if self.land is None else self.land(gelu(values))
        return latent
