"""A transformer layer under AdaLN that runs one token at a time and works nothing out twice.

A rollout asks the same layer about the same frames again and again. What is exact, and done here and by those who call:

* *Modulation once per action.* AdaLN's shifts, scales and gates depend on the action alone, not on the place of its frame in the window.
* *Tokens that stay.* Attention is causal: as long as a frame keeps its place, its token stays what it was. (When the window slides, the learned
  places move under the frames and every token is new.)
* *The last layer for the last token*, since only that one becomes a latent.
* *The oldest token has nobody to look at but itself*: its attention is one matrix, ``W_out W_value`` (W x W), without query and key.
* *The others look relative to it.* Attention weights sum to 1 and are blind to what all scores share, so with d_j = n_j - n_0,

      attention_i = W_out W_value n_0 + W_out sum_j p_ij W_value d_j,    p_i = softmax_j(0, q_i W_key d_1, ..., q_i W_key d_i):

  neither the oldest token's keys nor its values are ever needed.
* *Affine norms* fold into the matrices that follow them, the scale of attention into the query.
* *What does not depend on a candidate is one row*, not N: every tensor may have one row instead of N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

STEERS = 6
"""Shift, scale and gate of attention, then of the MLP."""


class Folded(nn.Module):
    """``values @ matrix + offset`` with ``matrix (in, out)`` lying as a product reads it; worked out in double precision, kept in single."""

    matrix: Tensor
    offset: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("matrix", weight.detach().T.contiguous().float())
        self.register_buffer("offset", None if bias is None else bias.detach().float())

    def forward(self, values: Tensor) -> Tensor:
        """``(..., out)`` of ``values (..., in)``."""
        product = values @ self.matrix
        return product if self.offset is None else product + self.offset


@dataclass(frozen=True)
class LayerMatrices:
    """A layer's weights ``(out, in)`` in double precision, with the affine part of its norms folded in.

    ``heads`` of attention lie one after the other in ``query``, ``key`` and ``value``; ``steer (6 W, W)`` makes the modulation. ``eps`` is that of
    the norms; ``second_norm`` that of another norm after each modulation, None where there is none.
    """

    query: Tensor
    query_bias: Tensor
    key: Tensor
    value: Tensor
    value_bias: Tensor
    out: Tensor
    out_bias: Tensor
    enter: Tensor
    enter_bias: Tensor
    leave: Tensor
    leave_bias: Tensor
    steer: Tensor
    steer_bias: Tensor
    heads: int
    eps: float
    second_norm: float | None


@dataclass(frozen=True)
class Modulation:
    """What an action does to a layer: ``(N, W)`` each. Scales are ready to multiply: 1 is among them."""

    shift: Tensor
    scale: Tensor
    gate: Tensor
    mlp_shift: Tensor
    mlp_scale: Tensor
    mlp_gate: Tensor


@dataclass(frozen=True)
class Looked:
    """What later tokens need of one in a layer; of the oldest ``normal`` and ``alone``, of the others ``key`` and ``value``."""

    normal: Tensor
    alone: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None


class ReusingLayer(nn.Module):
    """One layer, for tokens ``(N, W)`` that come one by one: ``look`` once per token, then ``forward`` where what follows it is needed."""

    def __init__(self, given: LayerMatrices) -> None:
        super().__init__()
        self.heads = given.heads
        self.eps, self.second_norm = given.eps, given.second_norm
        scale = (given.query.shape[0] // given.heads) ** -0.5
        self.query = Folded(scale * given.query, scale * given.query_bias)
        self.key = Folded(given.key, None)
        self.value = Folded(given.value, None)
        self.alone = Folded(given.out @ given.value, given.out @ given.value_bias + given.out_bias)
        self.out = Folded(given.out, None)
        self.enter = Folded(given.enter, given.enter_bias)
        self.leave = Folded(given.leave, given.leave_bias)
        parts = zip(given.steer.chunk(STEERS), given.steer_bias.chunk(STEERS), (0, 1, 0, 0, 1, 0), strict=True)
        self.steer = nn.ModuleList(Folded(matrix, bias + one) for matrix, bias, one in parts)

    def modulation(self, condition: Tensor) -> Modulation:
        """What the action behind ``condition (N, W)``, past its activation, does here."""
        return Modulation(*(part(condition) for part in self.steer))

    def look(self, hidden: Tensor, by: Modulation, earlier: list[Looked]) -> Looked:
        """What is to be seen of the token ``hidden (N, W)`` that follows ``earlier``."""
        normal = self._modulated(hidden, by.scale, by.shift)
        if not earlier:
            return Looked(normal, alone=self.alone(normal))
        beyond = normal - earlier[0].normal
        return Looked(normal, key=self.key(beyond), value=self.value(beyond))

    def forward(self, hidden: Tensor, by: Modulation, seen: list[Looked]) -> Tensor:
        """The token after this layer; ``seen`` are the tokens that it looks at, itself the last."""
        mixed = given(seen[0].alone)
        if len(seen) > 1:
            mixed = mixed + self.out(self._attend(self.query(seen[-1].normal), seen[1:]))
        hidden = hidden + by.gate * mixed
        return self._after_mlp(hidden, by)

    def _after_mlp(self, hidden: Tensor, by: Modulation) -> Tensor:
        inside = gelu(self.enter(self._modulated(hidden, by.mlp_scale, by.mlp_shift)))
        after: Tensor = hidden + by.mlp_gate * self.leave(inside)
        return after

    def _modulated(self, hidden: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        values = norm(hidden, self.eps) * scale + shift
        return values if self.second_norm is None else norm(values, self.second_norm)

    def _attend(self, query: Tensor, others: list[Looked]) -> Tensor:
        """What is mixed in of each of the tokens after the oldest: ``(N, heads * head width)``."""
        scores = [self._by_head(query * given(other.key)).sum(dim=-1, keepdim=True) for other in others]
        if len(scores) == 1:
            shares = [torch.sigmoid(scores[0])]
        else:
            shares = list(torch.split(torch.cat([torch.zeros_like(scores[0]), *scores], dim=-1).softmax(dim=-1), 1, dim=-1)[1:])
        mixed = shares[0] * self._by_head(given(others[0].value))
        for share, other in zip(shares[1:], others[1:], strict=True):
            mixed = mixed + share * self._by_head(given(other.value))
        return mixed.flatten(1)

    def _by_head(self, values: Tensor) -> Tensor:
        return values.reshape(-1, self.heads, values.shape[-1] // self.heads)


def token_through(layers: nn.ModuleList, hidden: Tensor, by: list[Modulation], window: list[list[Looked]], needed: bool) -> Tensor:
    """One more token of a ``window`` through all ``layers``; each notes what later tokens will need of it.

    In the last layer it goes on only where it is ``needed``.
    """
    last = len(by) - 1
    for index, (layer, steer, seen) in enumerate(zip(layers, by, window, strict=True)):
        assert isinstance(layer, ReusingLayer)
        seen.append(layer.look(hidden, steer, seen))
        if needed or index < last:
            hidden = layer(hidden, steer, seen)
    return hidden


def gelu(values: Tensor) -> Tensor:
    """GELU, exact, multiplied in the order in which ONNX Runtime recognises it as one operation; the exporter's own order it does not."""
    return 0.5 * (values * (1 + torch.erf(values / math.sqrt(2))))


def norm(values: Tensor, eps: float) -> Tensor:
    """Layer normalisation without an affine part."""
    return functional.layer_norm(values, values.shape[-1:], eps=eps)


def given(values: Tensor | None) -> Tensor:
    """The values, of which it is known that they are there."""
    assert values is not None
    return values
