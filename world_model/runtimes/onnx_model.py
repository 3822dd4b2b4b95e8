"""A bundle run by ONNX Runtime: neither torch nor transformers is imported here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from world_model.bundle import BundleError, read_manifest
from world_model.protocol import F32, ActionMixture, Context
from world_model.runtimes.choice import RuntimeChoice
from world_model.runtimes.config import RuntimeConfig
from world_model.runtimes.feeds import actor_steps, encoder_feed
from world_model.runtimes.graph import Graph
from world_model.runtimes.providers import PROVIDERS, order
from world_model.runtimes.sessions import Sessions

_WITHOUT_ENGINES = ("cuda", "cpu")


class OnnxModel:
    """A ``PlanningModel`` loaded from a bundle folder.

    Args:
        directory: the bundle.
        threads: intra-operator threads of each session. Several processes share the cores, so one is the default and none of them spins.
        config: what it is to run on, in the place of ``threads``; without it CUDA is tried, then the CPU, and nobody waits for an engine to be built.

    Raises:
        BundleError: the bundle is damaged, or a graph's shapes are not those of its manifest.
        RuntimeRefusedError: a runtime that was asked for by name cannot be had.
    """

    def __init__(self, directory: str | Path, threads: int = 1, config: RuntimeConfig | None = None) -> None:
        folder = Path(directory)
        self.directory = folder
        self.manifest = read_manifest(folder)
        self.history = self.manifest.history
        self.latent_dim = self.manifest.latent_dim
        self.action_dim = self.manifest.action_dim
        asked = config or RuntimeConfig(threads=threads)
        sessions = Sessions(folder, self.manifest, asked, order(asked) if config else _WITHOUT_ENGINES)
        self._encoder, self._rollout, self._heads, self._actor = (sessions.open(name) for name in ("encoder", "rollout", "heads", "actor"))
        self._witness = sessions.open("witness") if self.manifest.witness else None
        self.choice: RuntimeChoice = sessions.choice()
        self._most_steps = min(limit or 2**31 for limit in (self.manifest.horizon, sessions.most_steps))
        self._check(folder)

    @property
    def providers(self) -> tuple[str, ...]:
        """ONNX Runtime's names of what the graphs that were asked about run on."""
        return tuple(dict.fromkeys(PROVIDERS[choice.runs_on] for choice in self.choice.graphs))

    @property
    def first_run_ms(self) -> dict[str, float]:
        """What the first run of each graph took that has run, ms."""
        graphs = (self._encoder, self._witness, self._rollout, self._heads, self._actor)
        return {graph.name: graph.first_run_ms for graph in graphs if graph is not None and graph.first_run_ms is not None}

    def _check(self, folder: Path) -> None:
        joints = {"joints": (self.manifest.proprioception,)} if self.manifest.proprioception else {}
        expected: dict[str, tuple[Graph, dict[str, tuple[int, ...]]]] = {
            "encoder": (self._encoder, {"frames": self.manifest.frame, "latents": (self.latent_dim,)} | joints),
            "rollout": (
                self._rollout,
                {
                    "latents": (self.history, self.latent_dim),
                    "past_actions": (self.history - 1, self.action_dim),
                    "actions": (self.action_dim,),
                    "imagined": (self.latent_dim,),
                },
            ),
            "heads": (self._heads, {"latents": (self.latent_dim,), "goal": (self.latent_dim,)}),
            "actor": (
                self._actor,
                {"latents": (self.latent_dim,), "goal": (self.latent_dim,), "mean": (self.action_dim,), "std": (self.action_dim,)},
            ),
        }
        if self._witness is not None:
            expected["witness"] = (self._witness, expected["encoder"][1])
        for name, (graph, shapes) in expected.items():
            found = graph.shapes
            for key, tail in shapes.items():
                if key not in found or found[key][-len(tail) :] != tuple(tail):
                    raise BundleError(f"{folder}/{name}.onnx: '{key}' has shape {found.get(key)}, the manifest says (*, {', '.join(map(str, tail))})")

    def encode(self, frames: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        """Latents ``(B, D)`` of frames ``(B, h, w, 3) uint8`` and joint positions ``(B, J)`` rad, in the order of ``manifest.joints``.

        Rows with NaN, and None, mean that the joints are unknown. A model without proprioception ignores them.

        Raises:
            ValueError: the frames have another shape or type than the bundle's, or there are not as many rows of joints, or not as many joints.
        """
        return self._encoded(self._encoder, frames, joints)

    def witness(self, frames: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        """The same latents as a witness sees them, who was not taught to overlook camera, light and colours; the encoder's where there is none.

        Raises:
            ValueError: as ``encode``.
        """
        return self._encoded(self._encoder if self._witness is None else self._witness, frames, joints)

    def _encoded(self, graph: Graph, frames: NDArray[np.uint8], joints: F32 | None) -> F32:
        result: F32 = graph.run(encoder_feed(self.manifest, frames, joints))[0]
        return result

    def rollout(self, context: Context, actions: F32) -> F32:
        """Imagined latents ``(N, H, D)`` after each of ``actions (N, H, A)``."""
        most = min(self._most_steps, actions.shape[1])
        passes: list[F32] = []
        for begin in range(0, actions.shape[1], most):
            now = actions[:, begin : begin + most]
            if passes:
                context = context.after(actions[:, begin - most : begin], passes[-1])
            passes.append(self._rollout.run({"latents": context.latents, "past_actions": context.actions, "actions": now})[0])
        return passes[0] if len(passes) == 1 else np.concatenate(passes, axis=1)

    def distance(self, latents: F32, goal: F32) -> F32:
        """Temporal distance in steps ``(N,)`` from ``latents (N, D)`` to ``goal (D,)``."""
        result: F32 = self._heads.run({"latents": latents, "goal": goal})[0]
        return result

    def propose(self, latents: F32, goal: F32, steps_left: NDArray[np.floating]) -> ActionMixture:
        """The actor's action distributions for ``latents (N, D)``; ``steps_left (N,)`` is clipped to the range that it was trained on."""
        steps = actor_steps(self.manifest, steps_left)
        logits, mean, std = self._actor.run({"latents": latents, "goal": goal, "steps_left": steps})
        return ActionMixture(logits, mean, std)
