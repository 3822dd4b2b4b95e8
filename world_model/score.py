"""A whole plan's evaluation in one graph: rollout, cost and margins of N candidates, from one context and one goal that are encoded once.

It computes what ``planner_node``'s default objective does (tests/test_export_score.py proves it against that): temporal distance at the end of the
rollout, the paced actor's negative log-likelihood of the first action, control effort; and the smallest margin of workspace and zones on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, numpy_helper
from torch import Tensor, nn
from torch.export import Dim

from world_model.bundle import BundleError, Manifest
from world_model.graphs import to_onnx
from world_model.lean.rollout import lean_rollout_graph, shared_rollout
from world_model.training import Learned

OUTPUTS = ("cost", "margin", "imagined")
# As planner_node's guardrails sample a step, and what they forgive on a face of the workspace.
_SAMPLES, _ROUNDING_M = 8, 1e-6
# m; stands for no bound at all along an axis that is not driven.
_FREE_M = 1e6
_POINTS = "points"


@dataclass(frozen=True)
class ScoreSettings:
    """What the graph adds up; a term with weight 0 is left out.

    Weights of ``temporal_distance`` (steps at the end), ``latent_distance`` (mean squared difference at the end), ``actor_prior`` (nats, at most
    ``ceiling``, of an actor that is told at most ``pace`` of the steps that the critic sees) and ``effort`` (mean squared action). ``clearance_m`` is
    kept from zones: a caller who wants more adds it to their radius.
    """

    temporal_distance: float = 1.0
    latent_distance: float = 0.0
    actor_prior: float = 1.0
    effort: float = 0.0
    ceiling: float = 6.0
    pace: float = 0.5
    clearance_m: float = 0.012

    @staticmethod
    def of_critics(critics: Mapping[str, object], pace: float = 0.5, clearance_m: float = 0.012) -> ScoreSettings:
        """From critics as a planner file names them: weights, or mappings of settings.

        Raises:
            BundleError: there is a critic or a setting that the graph does not know.
        """
        values: dict[str, float] = dict.fromkeys(("temporal_distance", "latent_distance", "actor_prior", "effort"), 0.0)
        for name, content in critics.items():
            settings = {"weight": content} if isinstance(content, (int, float)) else dict(content) if isinstance(content, Mapping) else {}
            if name not in values:
                raise BundleError(f"score.onnx knows no critic '{name}', only {', '.join(values)}; leave --score out, or the critic")
            values[name] = float(settings.pop("weight", _DEFAULT_WEIGHTS[name]))
            if name == "actor_prior" and "ceiling" in settings:
                values["ceiling"] = float(settings.pop("ceiling"))
            unknown = {
                key: value for key, value in settings.items() if not (key == "along" and value == 0) and not (key == "over" and value == "last")
            }
            if unknown:
                raise BundleError(f"score.onnx cannot do {unknown} of critic '{name}'")
        return ScoreSettings(**values, pace=pace, clearance_m=clearance_m)

    def as_json(self) -> dict[str, float]:
        """For the manifest."""
        return asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> ScoreSettings:
        """Back from the manifest."""
        return ScoreSettings(**{field.name: float(content[field.name]) for field in fields(ScoreSettings)})


_DEFAULT_WEIGHTS = {"temporal_distance": 1.0, "latent_distance": 5.0, "actor_prior": 1.0, "effort": 0.05}


class Judge(nn.Module):
    """Cost ``(N,)`` and margin ``(N,)`` m of what was imagined, and of the tool points on the way."""

    lower: Tensor
    upper: Tensor
    shares: Tensor

    def __init__(self, learned: Learned, manifest: Manifest, settings: ScoreSettings) -> None:
        super().__init__()
        if not manifest.tool_step:
            raise BundleError(f"the actions of bundle '{manifest.name}' move no tool: there is no score.onnx without a workspace")
        self.distance, self.actor, self.settings = learned.distance, learned.actor, settings
        self.steps = manifest.actor_steps
        self.driven = tuple(low < high for low, high in zip(manifest.tool_step["lower"], manifest.tool_step["upper"], strict=True))
        self.register_buffer("lower", torch.tensor(manifest.tool_step["lower"]))
        self.register_buffer("upper", torch.tensor(manifest.tool_step["upper"]))
        self.register_buffer("shares", (torch.arange(_SAMPLES) + 1.0) / _SAMPLES)

    def forward(
        self, latents: Tensor, actions: Tensor, goal: Tensor, steps_left: Tensor, zones: Tensor, imagined: Tensor, points: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``latents (1, L, D)``, ``actions (N, H, A)``, ``goal (D,)``, ``steps_left ()``, ``zones (Z, 6)``, ``imagined (N, H, D)``.

        ``points (N, H+1, 3)`` m are the commanded tool's, the first of them where it is now.
        """
        cost, margin = self.cost(latents[:, -1], actions, goal, steps_left, imagined[:, -1]), self.margin(points, zones)
        # What is not finite was not imagined: it is infeasible by any measure. A product with 0 is 0 unless it is not finite.
        whole = (imagined * 0.0).sum((1, 2)) + (actions * 0.0).sum((1, 2)) + cost * 0.0 + margin * 0.0
        broken = torch.isnan(whole)
        infinite = torch.full_like(cost, torch.inf)
        return torch.where(broken, infinite, cost), torch.where(broken, -infinite, margin)

    def cost(self, now: Tensor, actions: Tensor, goal: Tensor, steps_left: Tensor, end: Tensor) -> Tensor:
        """The weighted sum ``(N,)``; the goal is embedded once, and so is the latent ``now (1, D)`` that the actor looks from."""
        settings = self.settings
        cost = torch.zeros_like(end[:, 0])
        if settings.temporal_distance:
            cost = cost + settings.temporal_distance * self.distance(end, goal[None])
        if settings.latent_distance:
            cost = cost + settings.latent_distance * ((end - goal) ** 2).mean(-1)
        if settings.actor_prior:
            steps = torch.minimum(steps_left[None], settings.pace * self.distance(now, goal[None]) + 1.0).clamp(*map(float, self.steps))
            logits, mean, std = self.actor(now, goal[None], steps)
            standard = (actions[:, :1] - mean) / std
            terms = torch.log_softmax(logits, dim=1) - 0.5 * (standard**2).sum(-1) - std.log().sum(-1)
            cost = cost + settings.actor_prior * (-torch.logsumexp(terms, dim=1)).clamp(max=settings.ceiling)
        if settings.effort:
            cost = cost + settings.effort * (actions**2).mean((1, 2))
        return cost

    def margin(self, points: Tensor, zones: Tensor) -> Tensor:
        """The smallest margin ``(N,)`` m on the way; a tool that already stands too close may leave, but not go deeper."""
        start, end = points[:, :-1, None], points[:, 1:, None]
        path = (start + (end - start) * self.shares[:, None]).flatten(1, 2)
        margins = self.every_margin(path, zones)  # (N, H * 8, 1 + Z)
        here = self.every_margin(points[:, :1], zones)
        return (margins - here.clamp(max=0.0)).amin((1, 2))

    def every_margin(self, path: Tensor, zones: Tensor) -> Tensor:
        """Margins ``(N, S, 1 + Z)`` of ``path (N, S, 3)``: the workspace's, then every zone's."""
        inside = torch.minimum(path - self.lower, self.upper - path) + _ROUNDING_M
        sides = [inside[..., axis] if driven else _unless_left(inside[..., axis]) for axis, driven in enumerate(self.driven)]
        workspace = torch.stack(sides, dim=-1).amin(-1, keepdim=True)
        offset = path[:, :, None, :2] - zones[:, :2]
        cos, sin = torch.cos(zones[:, 4]), torch.sin(zones[:, 4])
        along = offset[..., 0] * cos + offset[..., 1] * sin
        across = offset[..., 1] * cos - offset[..., 0] * sin
        a, b = along.abs() - zones[:, 2], across.abs() - zones[:, 3]
        outside = torch.sqrt(a.clamp(min=0.0) ** 2 + b.clamp(min=0.0) ** 2)
        distance = outside + torch.maximum(a, b).clamp(max=0.0) - zones[:, 5] - self.settings.clearance_m
        return torch.cat([workspace, distance], dim=-1)


def _unless_left(inside: Tensor) -> Tensor:
    return torch.where(inside >= 0, torch.full_like(inside, _FREE_M), inside)


class Score(nn.Module):
    """The whole in torch, steps unrolled: the reference of ``score.onnx``, and what graphs of fixed shape are made of.

    ``shared``: a rollout from one context that all candidates share, in the place of the predictor's own.
    """

    def __init__(self, learned: Learned, manifest: Manifest, settings: ScoreSettings, shared: nn.Module | None = None) -> None:
        super().__init__()
        self.shared = shared
        self.jepa, self.judge = learned.jepa, Judge(learned, manifest, settings)
        self.length_m = float(manifest.tool_step["length_m"])

    def forward(
        self, latents: Tensor, past_actions: Tensor, actions: Tensor, goal: Tensor, steps_left: Tensor, tool: Tensor, zones: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``cost (N,)``, ``margin (N,)``, ``imagined (N, H, D)``."""
        count = actions.shape[0]
        if self.shared is not None:
            imagined = self.shared(latents, past_actions, actions)
        else:
            imagined = self.jepa.rollout(latents.expand(count, -1, -1), past_actions.expand(count, -1, -1), actions)
        points = [tool[None].expand(count, -1)]
        for step in range(actions.shape[1]):
            moved = points[-1] + self.length_m * torch.nn.functional.pad(actions[:, step].clamp(-1.0, 1.0), (0, 3 - actions.shape[2]))
            points.append(torch.maximum(torch.minimum(moved, self.judge.upper), self.judge.lower))
        cost, margin = self.judge(latents, actions, goal, steps_left, zones, imagined, torch.stack(points, dim=1))
        return cost, margin, imagined


@dataclass(frozen=True)
class ScoreParts:
    """Graphs that ``whole`` puts together; each may be in a precision of its own."""

    rollout: onnx.ModelProto
    judge: onnx.ModelProto
    manifest: Manifest

    def whole(self) -> onnx.ModelProto:
        """The graph, with N, H and Z free.

        ``latents (1, L, D)``, ``past_actions (1, L-1, A)``, ``actions (N, H, A)``, ``goal (D,)``, ``steps_left ()``, ``tool (3,)`` and
        ``zones (Z, 6)`` to ``cost (N,)``, ``margin (N,)`` and ``imagined (N, H, D)``.
        """
        rollout = compose.add_prefix(self.rollout, "rollout.", rename_inputs=False, rename_outputs=False)
        judge = compose.add_prefix(self.judge, "judge.", rename_inputs=False, rename_outputs=False)
        step = self.manifest.tool_step
        nodes, constants = _around(step, self.manifest)
        for node in rollout.graph.node:
            for place, name in enumerate(node.input):
                if name in ("latents", "past_actions"):
                    node.input[place] = f"every.{name}"
        graph = helper.make_graph(
            [*nodes, *rollout.graph.node, *judge.graph.node],
            "score",
            _inputs(self.manifest),
            [*judge.graph.output, *rollout.graph.output],
            [*rollout.graph.initializer, *judge.graph.initializer, *constants],
        )
        domains = {entry.domain: entry for entry in (*rollout.opset_import, *judge.opset_import)}
        model = helper.make_model(graph, opset_imports=list(domains.values()), ir_version=rollout.ir_version)
        onnx.checker.check_model(model)
        return model


def score_parts(learned: Learned, manifest: Manifest, settings: ScoreSettings) -> ScoreParts:
    """The parts of ``score.onnx`` in fp32.

    Raises:
        BundleError: the bundle's actions move no tool.
    """
    jepa = learned.jepa
    rows, ahead, zones = Dim("N"), Dim("H", max=1024), Dim("Z")
    horizon, history, dim, action_dim = 4, jepa.predictor.history, jepa.latent_dim, jepa.predictor.action_dim
    args = (
        torch.zeros(1, history, dim),
        torch.zeros(3, horizon, action_dim),
        torch.zeros(dim),
        torch.tensor(5.0),
        torch.zeros(2, 6),
        torch.zeros(3, horizon, dim),
        torch.zeros(3, horizon + 1, 3),
    )
    inputs: dict[str, dict[int, Any]] = {
        "latents": {},
        "actions": {0: rows, 1: ahead},
        "goal": {},
        "steps_left": {},
        "zones": {0: zones},
        "imagined": {0: rows, 1: ahead},
        _POINTS: {0: rows, 1: ahead + 1},
    }
    judge = to_onnx(Judge(learned, manifest, settings), args, inputs, ["cost", "margin"])
    return ScoreParts(lean_rollout_graph(jepa), judge, manifest)


def fixed_score(learned: Learned, manifest: Manifest, settings: ScoreSettings, count: int, horizon: int, zones: int) -> onnx.ModelProto:
    """The same for exactly N = ``count``, H = ``horizon`` and Z = ``zones``, without a loop, as CUDA graphs need it."""
    jepa = learned.jepa
    history, dim, action_dim = jepa.predictor.history, jepa.latent_dim, jepa.predictor.action_dim
    latents, past = torch.zeros(1, history, dim), torch.zeros(1, history - 1, action_dim)
    args = (latents, past, torch.zeros(count, horizon, action_dim), torch.zeros(dim), torch.tensor(5.0), torch.zeros(3), torch.zeros(zones, 6))
    names = ("latents", "past_actions", "actions", "goal", "steps_left", "tool", "zones")
    return to_onnx(Score(learned, manifest, settings, shared_rollout(jepa, horizon)), args, {name: {} for name in names}, list(OUTPUTS))


def _inputs(manifest: Manifest) -> list[onnx.ValueInfoProto]:
    shapes: dict[str, list[int | str]] = {
        "latents": [1, manifest.history, manifest.latent_dim],
        "past_actions": [1, manifest.history - 1, manifest.action_dim],
        "actions": ["N", "H", manifest.action_dim],
        "goal": [manifest.latent_dim],
        "steps_left": [],
        "tool": [3],
        "zones": ["Z", 6],
    }
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]


def _around(step: dict[str, Any], manifest: Manifest) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The context repeated for every candidate, and the tool points on the way: a Scan, because every step is clamped to the workspace."""

    def constant(name: str, value: Any, kind: Any) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(value, dtype=kind), name)

    constants = [
        constant("around.one", [1], np.int64),
        constant("around.three", [3], np.int64),
        constant("around.latent", [manifest.history, manifest.latent_dim], np.int64),
        constant("around.past", [manifest.history - 1, manifest.action_dim], np.int64),
    ]
    nodes = [helper.make_node("Shape", ["actions"], ["around.count"], start=0, end=1)]
    for name, tail in (("latents", "around.latent"), ("past_actions", "around.past")):
        nodes.append(helper.make_node("Concat", ["around.count", tail], [f"around.{name}"], axis=0))
        nodes.append(helper.make_node("Expand", [name, f"around.{name}"], [f"every.{name}"]))
    nodes.append(helper.make_node("Concat", ["around.count", "around.three"], ["around.points"], axis=0))
    nodes.append(helper.make_node("Expand", ["tool", "around.points"], ["around.begin"]))
    floats = TensorProto.FLOAT
    body = helper.make_graph(
        [
            helper.make_node("Clip", ["way.action", "way.least", "way.most"], ["way.clipped"]),
            helper.make_node("Pad", ["way.clipped", "way.pads"], ["way.whole"]),
            helper.make_node("Mul", ["way.whole", "way.length"], ["way.moved"]),
            helper.make_node("Add", ["way.point", "way.moved"], ["way.free"]),
            helper.make_node("Min", ["way.free", "way.upper"], ["way.below"]),
            helper.make_node("Max", ["way.below", "way.lower"], ["way.next"]),
            helper.make_node("Identity", ["way.next"], ["way.seen"]),
        ],
        "way",
        [
            helper.make_tensor_value_info("way.point", floats, ["N", 3]),
            helper.make_tensor_value_info("way.action", floats, ["N", manifest.action_dim]),
        ],
        [helper.make_tensor_value_info("way.next", floats, ["N", 3]), helper.make_tensor_value_info("way.seen", floats, ["N", 3])],
        [
            constant("way.least", -1.0, np.float32),
            constant("way.most", 1.0, np.float32),
            constant("way.pads", [0, 0, 0, 3 - manifest.action_dim], np.int64),
            constant("way.length", step["length_m"], np.float32),
            constant("way.upper", step["upper"], np.float32),
            constant("way.lower", step["lower"], np.float32),
        ],
    )
    nodes.append(
        helper.make_node(
            "Scan",
            ["around.begin", "actions"],
            ["around.last", "around.way"],
            body=body,
            num_scan_inputs=1,
            scan_input_axes=[1],
            scan_output_axes=[1],
        )
    )
    nodes.append(helper.make_node("Unsqueeze", ["around.begin", "around.one"], ["around.begin1"]))
    nodes.append(helper.make_node("Concat", ["around.begin1", "around.way"], [_POINTS], axis=1))
    return nodes, constants
