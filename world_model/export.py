"""From trained networks to a bundle: ONNX graphs with normalisation inside, checked against torch before anything is kept."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import Dim

from world_model.bundle import Manifest, write_manifest
from world_model.checkpoint import CheckpointError, load_checkpoint
from world_model.config import TrainConfig, parse_config
from world_model.jepa import Jepa
from world_model.protocol import Context
from world_model.runtime import OnnxModel
from world_model.training import Learned, build

_OPSET = 18
_PARITY = 1e-4


class ExportError(ValueError):
    """Exported graphs that do not compute what torch computes."""


class _OneStep(nn.Module):
    """One step of imagination with its context, the body of the rollout's loop."""

    def __init__(self, jepa: Jepa) -> None:
        super().__init__()
        self.predictor = jepa.predictor

    def forward(self, latents: Tensor, past_actions: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        window = torch.cat([past_actions, action[:, None]], dim=1)
        after = self.predictor(latents, window)
        return torch.cat([latents[:, 1:], after[:, None]], dim=1), window[:, 1:], after.clone()


class _Encode(nn.Module):
    def __init__(self, jepa: Jepa) -> None:
        super().__init__()
        self.jepa = jepa

    def forward(self, frames: Tensor) -> Tensor:
        return self.jepa.encode(frames)


class _Distance(nn.Module):
    def __init__(self, learned: Learned) -> None:
        super().__init__()
        self.head = learned.distance

    def forward(self, latents: Tensor, goal: Tensor) -> Tensor:
        distance: Tensor = self.head(latents, goal[None])
        return distance


class _Propose(nn.Module):
    def __init__(self, learned: Learned) -> None:
        super().__init__()
        self.actor = learned.actor

    def forward(self, latents: Tensor, goal: Tensor, steps_left: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mixture: tuple[Tensor, Tensor, Tensor] = self.actor(latents, goal[None].expand_as(latents), steps_left)
        return mixture


def _to_onnx(module: nn.Module, args: tuple[Tensor, ...], inputs: dict[str, dict[int, Any]], outputs: list[str]) -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # and what it says of torchvision, which nothing here needs
        program = torch.onnx.export(
            module.eval(),
            args,
            dynamo=True,
            opset_version=_OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=tuple(inputs.values()),
            verbose=False,
        )
    assert program is not None
    return _without_traces(program.model_proto)


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without the exporter's stack traces, which name the folders of the machine that it ran on."""
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def _loop(step: onnx.ModelProto, history: int, latent_dim: int, action_dim: int) -> onnx.ModelProto:
    """Wrap the one-step graph into a Scan over the action axis, so that N and H stay free and the whole rollout is one graph."""
    scan = helper.make_node(
        "Scan",
        ["latents", "past_actions", "actions"],
        ["last_latents", "last_actions", "imagined"],
        body=step.graph,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[1],
    )
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        [scan],
        "rollout",
        [
            helper.make_tensor_value_info("latents", floats, ["N", history, latent_dim]),
            helper.make_tensor_value_info("past_actions", floats, ["N", history - 1, action_dim]),
            helper.make_tensor_value_info("actions", floats, ["N", "H", action_dim]),
        ],
        [helper.make_tensor_value_info("imagined", floats, ["N", "H", latent_dim])],
    )
    model = helper.make_model(graph, opset_imports=step.opset_import, ir_version=step.ir_version, functions=list(step.functions))
    onnx.checker.check_model(model)
    return model


def load_run(run: Path) -> tuple[TrainConfig, Learned, dict[str, Any]]:
    """The configuration, networks and metadata of a finished training run.

    Raises:
        ExportError: the run is not finished.
        CheckpointError: the run is damaged.
    """
    file = run / "learned.safetensors"
    if not file.is_file():
        raise ExportError(f"{run} holds no finished training run (learned.safetensors); run `latent-mpc train` first")
    try:
        with safe_open(file, framework="pt") as opened:
            meta = json.loads((opened.metadata() or {})["meta"])
        data = meta["data"][0]
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{file} is not a training run: {' '.join(str(error).split())}") from error
    config = parse_config(meta["config"], str(file))
    frame = (int(data["frame"][0]), int(data["frame"][1]), int(data["frame"][2]))
    lower, upper = data["tool_step"]["lower"], data["tool_step"]["upper"]
    action_dim = sum(low < high for low, high in zip(lower, upper, strict=True))
    learned = build(config, frame, action_dim)
    load_checkpoint(file, learned.modules(), None)
    for module in learned.modules().values():
        module.eval()
    return config, learned, meta


def export_bundle(run: Path, out: Path, joints: tuple[str, ...]) -> dict[str, float]:
    """Write the bundle of a training run to ``out`` and return the largest difference of each graph from torch.

    Raises:
        ExportError: a graph differs from torch by more than 1e-4, or ``out`` is a folder of something else; nothing is written then.
        CheckpointError: the run is damaged.
    """
    if out.exists() and not (out / "manifest.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} is not a model bundle and would be overwritten; choose another folder")
    config, learned, meta = load_run(run)
    data = meta["data"][0]
    height, width, channels = (int(v) for v in data["frame"])
    dim, history = config.model.latent_dim, config.model.history
    action_dim = int(learned.jepa.predictor.enter.in_features / history) - dim
    count = Dim("N")
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        pictures = torch.zeros(2, height, width, channels, dtype=torch.uint8)
        latents, goal = torch.zeros(2, dim), torch.zeros(dim)
        onnx.save(_to_onnx(_Encode(learned.jepa), (pictures,), {"frames": {0: count}}, ["latents"]), staging / "encoder.onnx")
        step = _to_onnx(
            _OneStep(learned.jepa),
            (torch.zeros(2, history, dim), torch.zeros(2, history - 1, action_dim), torch.zeros(2, action_dim)),
            {"step_latents": {0: count}, "step_actions": {0: count}, "step_action": {0: count}},
            ["next_latents", "next_actions", "step_imagined"],
        )
        onnx.save(_loop(step, history, dim, action_dim), staging / "rollout.onnx")
        onnx.save(_to_onnx(_Distance(learned), (latents, goal), {"latents": {0: count}, "goal": {}}, ["steps"]), staging / "heads.onnx")
        propose_inputs: dict[str, dict[int, Any]] = {"latents": {0: count}, "goal": {}, "steps_left": {0: count}}
        onnx.save(_to_onnx(_Propose(learned), (latents, goal, torch.ones(2)), propose_inputs, ["logits", "mean", "std"]), staging / "actor.onnx")
        weights = {f"{name}/{key}": value.contiguous() for name, module in learned.modules().items() for key, value in module.state_dict().items()}
        save_file(weights, staging / "weights.safetensors")
        write_manifest(
            staging,
            Manifest(
                name=config.name,
                tasks=config.tasks,
                tool_step=data["tool_step"],
                frame=(height, width, channels),
                latent_dim=dim,
                action_dim=action_dim,
                history=history,
                actor_steps=(config.actor.least_steps, config.actor.most_steps),
                joints=joints,
                encoder=config.model.encoder.kind,
                normalisation="inside the graph: uint8 RGB in",
                provenance={
                    "config": dataclasses.asdict(config),
                    "data": meta["data"],
                    "episodes": meta["episodes"],
                    "probes": meta["probes"],
                    "torch": torch.__version__,
                },
            ),
        )
        report = parity(learned, OnnxModel(staging), history, action_dim)
        worst = max(report, key=lambda name: report[name])
        if report[worst] > _PARITY:
            raise ExportError(f"{worst}.onnx differs from torch by {report[worst]:.2g}, more than {_PARITY:.0e}; no bundle was written")
        if out.exists():
            shutil.rmtree(out)
        staging.chmod(0o755)
        staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return report


@torch.inference_mode()
def parity(learned: Learned, model: OnnxModel, history: int, action_dim: int) -> dict[str, float]:
    """Largest absolute difference between torch and ONNX Runtime on random inputs, for each graph."""
    rng = np.random.default_rng(0)
    count, horizon, dim = 5, 7, model.latent_dim
    frames = rng.integers(0, 256, (count, *model.manifest.frame), dtype=np.uint8)
    latents = rng.standard_normal((count, history, dim)).astype(np.float32)
    past = rng.uniform(-1, 1, (count, history - 1, action_dim)).astype(np.float32)
    actions = rng.uniform(-1, 1, (count, horizon, action_dim)).astype(np.float32)
    goal = rng.standard_normal(dim).astype(np.float32)
    least, most = model.manifest.actor_steps
    steps = rng.uniform(least, most, count).astype(np.float32)
    last, goals = torch.from_numpy(latents[:, -1]), torch.from_numpy(np.repeat(goal[None], count, 0))
    mixture = model.propose(latents[:, -1], goal, steps)

    def gap(torch_value: Tensor, onnx_value: np.ndarray[Any, Any]) -> float:
        return float(np.abs(torch_value.numpy() - onnx_value).max())

    proposed = learned.actor(last, goals, torch.from_numpy(steps))
    return {
        "encoder": gap(learned.jepa.encode(torch.from_numpy(frames)), model.encode(frames)),
        "rollout": gap(
            learned.jepa.rollout(*(torch.from_numpy(a) for a in (latents, past, actions))), model.rollout(Context(latents, past), actions)
        ),
        "heads": gap(learned.distance(last, goals), model.distance(latents[:, -1], goal)),
        "actor": max(gap(value, other) for value, other in zip(proposed, (mixture.logits, mixture.mean, mixture.std), strict=True)),
    }
