"""The rollout of a ``TransformerPredictor`` with nothing worked out twice: the same latents, for any bundle that has such a predictor.

Its window is full from the start and slides at every step, so no candidate's token stays. What is left is much all the same: frames that were *seen*
are the same for all N candidates, and so are their tokens, in one row; modulation once per action; the oldest token and the last layer as in
:mod:`world_model.lean.layer`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from world_model.graphs import to_onnx
from world_model.lean.layer import Folded, LayerMatrices, Looked, Modulation, ReusingLayer, given, token_through
from world_model.predictors.attention import ModulatedBlock
from world_model.predictors.transformer import TransformerPredictor

_EPS = 1e-5


def layer_matrices(block: ModulatedBlock) -> LayerMatrices:
    """The matrices of one of our blocks."""

    def of(layer: Any) -> tuple[Tensor, Tensor]:
        return layer.weight.detach().double(), layer.bias.detach().double()

    (query, query_bias), (out, out_bias) = of(block.query), of(block.mix[0])
    both, both_bias = of(block.key_value)
    (enter, enter_bias), (leave, leave_bias), (steer, steer_bias) = of(block.mlp[0]), of(block.mlp[3]), of(block.modulation[1])
    (key, value), value_bias = both.chunk(2), both_bias.chunk(2)[1]
    return LayerMatrices(
        query, query_bias, key, value, value_bias, out, out_bias, enter, enter_bias, leave, leave_bias, steer, steer_bias, block.heads, _EPS, None
    )


class GridLayer(ReusingLayer):
    """The same for K > 1 tokens ``(N, K, W)`` of a frame, which see one another: the oldest frame is no exception, and keys and values are whole."""

    def __init__(self, matrices: LayerMatrices) -> None:
        super().__init__(matrices)
        self.value_bias = nn.Buffer((matrices.out @ matrices.value_bias + matrices.out_bias).float())

    def look(self, hidden: Tensor, by: Modulation, earlier: list[Looked]) -> Looked:
        """What is to be seen of a frame's tokens."""
        normal = self._modulated(hidden, by.scale, by.shift)
        return Looked(normal, self.value_bias, self.key(normal), self.value(normal))

    def forward(self, hidden: Tensor, by: Modulation, seen: list[Looked]) -> Tensor:
        """The tokens after this layer; ``seen`` are the frames that they look at, their own the last."""
        mixed = given(seen[0].alone) + self.out(self._attend(self.query(seen[-1].normal), seen))
        hidden = hidden + by.gate * mixed
        return self._after_mlp(hidden, by)

    def _attend(self, query: Tensor, others: list[Looked]) -> Tensor:
        """Attention of ``query (N, K, W)`` in two parts, since frames that all candidates share have one row: scores together, values apart."""
        asked = self._rows(query)
        scores = [asked @ self._rows(given(other.key)).transpose(-1, -2) for other in others]
        shares = torch.split(torch.cat(scores, dim=-1).softmax(dim=-1), query.shape[1], dim=-1)
        mixed = shares[0] @ self._rows(given(others[0].value))
        for share, other in zip(shares[1:], others[1:], strict=True):
            mixed = mixed + share @ self._rows(given(other.value))
        return mixed.transpose(1, 2).flatten(2)

    def _rows(self, values: Tensor) -> Tensor:
        return values.reshape(*values.shape[:2], self.heads, values.shape[-1] // self.heads).transpose(1, 2)


class ExactTransformerRollout(nn.Module):
    """H steps of a ``TransformerPredictor`` from a context that all candidates share.

    Args:
        predictor: the trained one; its weights are copied.
        horizon: H.
    """

    offsets: Tensor

    def __init__(self, predictor: TransformerPredictor, horizon: int) -> None:
        super().__init__()
        self.horizon, self.history = horizon, predictor.history
        self.tokens, self.token_dim = predictor.tokens, predictor.token_dim
        self.enter = Folded(predictor.enter.weight, None)
        places = predictor.frame_position[:, None] + predictor.token_position + predictor.enter.bias
        self.offsets = nn.Buffer(places.detach().clone())
        self.embed = predictor.embed
        kind = ReusingLayer if self.tokens == 1 else GridLayer
        self.layers = nn.ModuleList(kind(layer_matrices(block)) for block in predictor.blocks if isinstance(block, ModulatedBlock))
        self.readout = predictor.readout

    def forward(self, latents: Tensor, past_actions: Tensor, actions: Tensor) -> Tensor:
        """Imagined ``(N, H, D)`` after each of ``actions (N, H, A)``, from ``latents (1, L, D)`` with ``past_actions (1, L-1, A)`` between them."""
        first = self.history - 1
        taken = [past_actions[:, place] for place in range(first)] + [actions[:, step] for step in range(self.horizon)]
        conditions = [self.embed(action) for action in taken]
        steers = [self.modulations(functional.silu(condition)) for condition in conditions]
        frames = [latents[:, place] for place in range(self.history)]
        tokens = [self.entered(frame) for frame in frames]
        for newest in range(first, first + self.horizon):
            window: list[list[Looked]] = [[] for _ in self.layers]
            hidden = latents
            for place in range(self.history):
                frame = newest - first + place
                hidden = token_through(self.layers, self.placed(tokens[frame], place), steers[frame], window, needed=place == first)
            change = self.readout(hidden.reshape(hidden.shape[0], 1, self.tokens, -1), conditions[newest][:, None])
            frames.append(frames[newest] + change.flatten(1))
            tokens.append(self.entered(frames[-1]))
        return torch.stack(frames[self.history :], dim=1)

    def modulations(self, condition: Tensor) -> list[Modulation]:
        """What the action behind ``condition (N, W)``, past its activation, does in each layer."""
        values = condition if self.tokens == 1 else condition[:, None]
        return [layer.modulation(values) for layer in self.layers if isinstance(layer, ReusingLayer)]

    def entered(self, frame: Tensor) -> Tensor:
        """Tokens ``(N, W)``, or ``(N, K, W)`` for K > 1, of ``frame (N, D)``, wherever it stands in the window."""
        values: Tensor = self.enter(frame if self.tokens == 1 else frame.reshape(frame.shape[0], self.tokens, self.token_dim))
        return values

    def placed(self, entered: Tensor, place: int) -> Tensor:
        """Tokens that stand at ``place`` of the window."""
        return entered + (self.offsets[place, 0] if self.tokens == 1 else self.offsets[place])


def transformer_rollout_graph(predictor: TransformerPredictor, horizon: int) -> Any:
    """``latents (1, L, D)``, ``past_actions (1, L-1, A)``, ``actions (N, H, A)`` to ``imagined (N, H, D)`` for H = ``horizon``, N free."""
    dim = predictor.tokens * predictor.token_dim
    history, acts = predictor.history, predictor.action_dim
    args = (torch.zeros(1, history, dim), torch.zeros(1, history - 1, acts), torch.zeros(7, horizon, acts))
    inputs: dict[str, dict[int, Any]] = {"latents": {}, "past_actions": {}, "actions": {0: Dim("N")}}
    return to_onnx(ExactTransformerRollout(predictor, horizon), args, inputs, ["imagined"])
