"""The rollouts that are exported: with nothing worked out twice where the predictor is a causal transformer, else the plain ones.

A bundle's ``rollout.onnx`` takes a context for every candidate and any number of steps, so it stays a loop. What a step has worked out that the next
one needs again travels in the loop's state: what frames are as tokens before they get their place, and what their actions do to each layer.
"""

from __future__ import annotations

from typing import Any

import onnx
import torch
from onnx import TensorProto, compose, helper
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from world_model.graphs import fixed_rollout, rollout_graph, to_onnx
from world_model.jepa import Jepa
from world_model.lean.layer import STEERS, Looked, Modulation, token_through
from world_model.lean.transformer import ExactTransformerRollout
from world_model.predictors.predictor import Predictor
from world_model.predictors.transformer import TransformerPredictor

_STATE = ("state.newest", "state.entered", "state.steers")
# Of an older frame the last layer is only asked what is seen of it: its action's shift and scale.
_LOOKED_AT = 2


def lean_rollout_graph(jepa: Jepa) -> onnx.ModelProto:
    """What ``world_model.graphs.rollout_graph`` makes, with less arithmetic.

    ``latents (N, L, D)``, ``past_actions (N, L-1, A)``, ``actions (N, H, A)`` to ``imagined (N, H, D)``, N and H free.
    """
    predictor = jepa.predictor
    if not _has_reuse(predictor):
        return rollout_graph(jepa)
    assert isinstance(predictor, TransformerPredictor)
    step, rows = _Step(predictor).eval(), Dim("N")
    history, dim, acts = predictor.history, jepa.latent_dim, predictor.action_dim
    context = (torch.zeros(2, history, dim), torch.zeros(2, history - 1, acts))
    begin = to_onnx(_Begin(step), context, {"latents": {0: rows}, "past_actions": {0: rows}}, list(_STATE))
    with torch.no_grad():
        state = _Begin(step)(*context)
    body = to_onnx(
        step,
        (*state, torch.zeros(2, acts)),
        {f"step_{name}": {0: rows} for name in ("newest", "entered", "steers", "action")},
        ["next_newest", "next_entered", "next_steers", "step_imagined"],
    )
    return _whole(begin, body, dim, acts)


def lean_fixed_rollout(jepa: Jepa, count: int, horizon: int) -> onnx.ModelProto:
    """The same for exactly N = ``count`` and H = ``horizon``, without a loop, as ``world_model.graphs.fixed_rollout``."""
    predictor = jepa.predictor
    if not _has_reuse(predictor):
        return fixed_rollout(jepa, count, horizon)
    assert isinstance(predictor, TransformerPredictor)
    context = (torch.zeros(count, predictor.history, jepa.latent_dim), torch.zeros(count, predictor.history - 1, predictor.action_dim))
    inputs: dict[str, dict[int, Any]] = {"latents": {}, "past_actions": {}, "actions": {}}
    args = (*context, torch.zeros(count, horizon, predictor.action_dim))
    return to_onnx(ExactTransformerRollout(predictor, horizon), args, inputs, ["imagined"])


def shared_rollout(jepa: Jepa, horizon: int) -> nn.Module | None:
    """A rollout over H = ``horizon`` steps from *one* context ``(1, L, D)`` that all candidates share; None where sharing it saves nothing."""
    predictor = jepa.predictor
    return ExactTransformerRollout(predictor, horizon) if isinstance(predictor, TransformerPredictor) else None


def _has_reuse(predictor: Predictor) -> bool:
    # Who sees one frame only forgets everything after it.
    return isinstance(predictor, TransformerPredictor) and predictor.history > 1


class _Step(nn.Module):
    """One step; of the window's frames only the newest, and of their actions only the newest, are looked at for the first time."""

    def __init__(self, predictor: TransformerPredictor) -> None:
        super().__init__()
        self.exact = ExactTransformerRollout(predictor, 1)

    def forward(self, newest: Tensor, entered: Tensor, steers: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The next three and what follows ``(N, D)``.

        ``newest (N, D)``, ``entered (N, L-1, K W)`` and ``steers (N, L-1, S)`` of the older frames, ``action (N, A)`` after the newest.
        """
        exact = self.exact
        last = exact.history - 1
        condition = exact.embed(action)
        now = exact.modulations(functional.silu(condition))
        frame = exact.entered(newest)
        window: list[list[Looked]] = [[] for _ in exact.layers]
        for place in range(last):
            older = entered[:, place] if exact.tokens == 1 else entered[:, place].reshape(newest.shape[0], exact.tokens, -1)
            token_through(exact.layers, exact.placed(older, place), self._unpacked(steers[:, place]), window, needed=False)
        hidden = token_through(exact.layers, exact.placed(frame, last), now, window, needed=True)
        change = exact.readout(hidden.reshape(hidden.shape[0], 1, exact.tokens, -1), condition[:, None])
        after = newest + change.flatten(1)
        kept = torch.cat([entered[:, 1:], frame.flatten(1)[:, None]], dim=1)
        return after, kept, torch.cat([steers[:, 1:], self._packed(now)[:, None]], dim=1), after.clone()

    def packed_steers(self, action: Tensor) -> Tensor:
        """What ``action (N, A)`` does to each layer, ``(N, S)``."""
        return self._packed(self.exact.modulations(functional.silu(self.exact.embed(action))))

    def _packed(self, steers: list[Modulation]) -> Tensor:
        parts = [value for by in steers[:-1] for value in (by.shift, by.scale, by.gate, by.mlp_shift, by.mlp_scale, by.mlp_gate)]
        return torch.cat([value.flatten(1) for value in (*parts, steers[-1].shift, steers[-1].scale)], dim=1)

    def _unpacked(self, packed: Tensor) -> list[Modulation]:
        depth = len(self.exact.layers)
        parts = packed.chunk(STEERS * (depth - 1) + _LOOKED_AT, dim=1)
        if self.exact.tokens > 1:
            parts = tuple(part[:, None] for part in parts)
        whole = [Modulation(*parts[STEERS * layer : STEERS * (layer + 1)]) for layer in range(depth - 1)]
        shift, scale = parts[-_LOOKED_AT:]
        return [*whole, Modulation(shift, scale, shift, shift, shift, shift)]  # the last four are never asked for


class _Begin(nn.Module):
    """The loop's first state."""

    def __init__(self, step: _Step) -> None:
        super().__init__()
        self.step = step

    def forward(self, latents: Tensor, past_actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``newest``, ``entered`` and ``steers`` of ``latents (N, L, D)`` with ``past_actions (N, L-1, A)`` between them."""
        older = range(past_actions.shape[1])
        entered = torch.stack([self.step.exact.entered(latents[:, place]).flatten(1) for place in older], dim=1)
        steers = torch.stack([self.step.packed_steers(past_actions[:, place]) for place in older], dim=1)
        return latents[:, -1].clone(), entered, steers


def _whole(begin: onnx.ModelProto, body: onnx.ModelProto, dim: int, action_dim: int) -> onnx.ModelProto:
    """The first state, then a Scan over the action axis, so that N and H stay free."""
    first = compose.add_prefix(begin, "begin.", rename_inputs=False, rename_outputs=False)
    scan = helper.make_node(
        "Scan",
        [*_STATE, "actions"],
        ["last.newest", "last.entered", "last.steers", "imagined"],
        body=body.graph,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[1],
    )
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        [*first.graph.node, scan],
        "rollout",
        [*first.graph.input, helper.make_tensor_value_info("actions", floats, ["N", "H", action_dim])],
        [helper.make_tensor_value_info("imagined", floats, ["N", "H", dim])],
        first.graph.initializer,
    )
    domains = {entry.domain: entry for entry in (*begin.opset_import, *body.opset_import)}
    model = helper.make_model(graph, opset_imports=list(domains.values()), ir_version=body.ir_version)
    onnx.checker.check_model(model)
    return model
