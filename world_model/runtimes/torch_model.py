"""A bundle run by torch, from its weights and the description of its networks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from world_model.bundle import read_manifest
from world_model.differentiable import BundleGradients
from world_model.networks import load_networks
from world_model.protocol import F32, ActionMixture, Context
from world_model.runtimes.choice import GraphChoice, RuntimeChoice
from world_model.runtimes.config import RuntimeConfig
from world_model.runtimes.feeds import actor_steps, encoder_feed
from world_model.runtimes.sessions import Sessions, this_machine
from world_model.runtimes.torch_graphs import TorchGraph

_NO_WITNESS = "the bundle holds the witness as a graph only, without its weights"
_ONE_PRECISION = "torch runs the weights as they are, in fp32"


class TorchBundle(BundleGradients):
    """A ``PlanningModel`` that runs in torch: on a GPU as one CUDA graph for each function and shape, else on ``threads`` threads of this process.

    The witness is left to ONNX Runtime: its weights are not in the bundle.

    Raises:
        BundleError: the bundle is damaged, or does not say how its networks were built.
        CheckpointError: its weights do not fit them.
    """

    def __init__(self, directory: str | Path, config: RuntimeConfig) -> None:
        self.directory = Path(directory)
        self.manifest = read_manifest(self.directory)
        self.history, self.latent_dim, self.action_dim = self.manifest.history, self.manifest.latent_dim, self.manifest.action_dim
        machine = this_machine()
        on_gpu = torch.cuda.is_available()
        self._device = torch.device("cuda" if on_gpu else "cpu")
        torch.set_num_threads(config.threads)
        torch.backends.cudnn.allow_tf32 = False
        networks = load_networks(self.directory, self.manifest)
        for module in networks.modules().values():
            module.requires_grad_(False).to(self._device)
        self._networks = networks
        self._graphs = {
            "encoder": TorchGraph(self._encode_joints if self.manifest.proprioception else self._encode, self._device),
            "rollout": TorchGraph(self._imagine, self._device),
            "heads": TorchGraph(self._measure, self._device),
            "actor": TorchGraph(self._act, self._device),
        }
        self.first_run_ms: dict[str, float] = {}
        sessions = Sessions(self.directory, self.manifest, config, ("cuda", "cpu"), machine)
        self._witness = sessions.open("witness") if self.manifest.witness else None
        over: list[tuple[str, str]] = [] if on_gpu else [("cuda", machine.no_device or f"torch {torch.__version__} finds no GPU")]
        if config.precision != "fp32":
            over.append((config.precision, _ONE_PRECISION))
        place = "torch-cuda" if on_gpu else "torch-cpu"
        chosen = [GraphChoice(name, place, "fp32", tuple(over)) for name in self._graphs if name in config.graphs]
        left = [GraphChoice(c.graph, c.runs_on, c.precision, (("torch", _NO_WITNESS), *c.passed_over)) for c in sessions.choice().graphs]
        self.choice = RuntimeChoice(config.runtime, (*chosen, *left), machine.name, f"torch {torch.__version__}, {machine.software}")

    def encode(self, frames: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        """As ``OnnxModel.encode``."""
        (latents,) = self._run("encoder", *encoder_feed(self.manifest, frames, joints).values())
        return latents

    def witness(self, frames: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        """As ``OnnxModel.witness``."""
        if self._witness is None:
            return self.encode(frames, joints)
        latents: F32 = self._witness.run(encoder_feed(self.manifest, frames, joints))[0]
        if self._witness.first_run_ms is not None:
            self.first_run_ms.setdefault("witness", self._witness.first_run_ms)
        return latents

    def rollout(self, context: Context, actions: F32) -> F32:
        """Imagined latents ``(N, H, D)`` after each of ``actions (N, H, A)``."""
        (imagined,) = self._run("rollout", context.latents, context.actions, actions)
        return imagined

    def distance(self, latents: F32, goal: F32) -> F32:
        """Temporal distance in steps ``(N,)`` from ``latents (N, D)`` to ``goal (D,)``."""
        (steps,) = self._run("heads", latents, goal)
        return steps

    def propose(self, latents: F32, goal: F32, steps_left: NDArray[np.floating]) -> ActionMixture:
        """The actor's action distributions for ``latents (N, D)``; ``steps_left (N,)`` is clipped to the range that it was trained on."""
        return ActionMixture(*self._run("actor", latents, goal, actor_steps(self.manifest, steps_left)))

    def _run(self, graph: str, *arrays: NDArray[Any]) -> tuple[F32, ...]:
        began = time.perf_counter()
        found = self._graphs[graph](*arrays)
        self.first_run_ms.setdefault(graph, (time.perf_counter() - began) * 1e3)
        return found

    def _encode(self, frames: Tensor) -> tuple[Tensor, ...]:
        return (self._networks.jepa.encode(frames),)

    def _encode_joints(self, frames: Tensor, joints: Tensor) -> tuple[Tensor, ...]:
        return (self._networks.jepa.encode(frames, joints),)

    def _imagine(self, latents: Tensor, past_actions: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        return (self._networks.jepa.rollout(latents, past_actions, actions),)

    def _measure(self, latents: Tensor, goal: Tensor) -> tuple[Tensor, ...]:
        return (self._networks.distance(latents, goal[None]),)

    def _act(self, latents: Tensor, goal: Tensor, steps_left: Tensor) -> tuple[Tensor, ...]:
        logits, mean, std = self._networks.actor(latents, goal[None].expand_as(latents), steps_left)
        return logits, mean, std
