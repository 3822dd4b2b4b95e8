"""A bundle run by ONNX Runtime: neither torch nor transformers is imported here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from world_model.bundle import WITNESS, BundleError, read_manifest
from world_model.protocol import F32, ActionMixture, Context

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def _has_gpu() -> bool:
    return os.path.exists("/dev/nvidia0") or os.path.exists("/dev/nvhost-gpu")


class OnnxModel:
    """A ``PlanningModel`` loaded from a bundle folder.

    Args:
        directory: the bundle.
        threads: intra-operator threads of each session. Several processes share the cores, so one is the default and none of them spins.

    Raises:
        BundleError: the bundle is damaged, or a graph's shapes are not those of its manifest.
    """

    def __init__(self, directory: str | Path, threads: int = 1) -> None:
        folder = Path(directory)
        self.directory = folder
        self.manifest = read_manifest(folder)
        self.history = self.manifest.history
        self.latent_dim = self.manifest.latent_dim
        self.action_dim = self.manifest.action_dim
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wanted = [name for name in _PROVIDERS if _has_gpu() or name == "CPUExecutionProvider"]
        self.providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        self._encoder, self._rollout, self._heads, self._actor = (
            self._open(folder / f"{name}.onnx", options) for name in ("encoder", "rollout", "heads", "actor")
        )
        self._witness = self._open(folder / WITNESS, options) if self.manifest.witness else None
        self._check(folder)

    def _open(self, file: Path, options: Any) -> Any:
        try:
            return onnxruntime.InferenceSession(str(file), options, providers=self.providers)
        except Exception as error:  # ONNX Runtime has a class for each status, without a common one
            raise BundleError(f"{file} cannot be run: {' '.join(str(error).split())}") from error

    def _check(self, folder: Path) -> None:
        joints = {"joints": (self.manifest.proprioception,)} if self.manifest.proprioception else {}
        expected: dict[str, tuple[Any, dict[str, tuple[int, ...]]]] = {
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
        for name, (session, shapes) in expected.items():
            found: dict[str, Any] = {value.name: tuple(value.shape) for value in (*session.get_inputs(), *session.get_outputs())}
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

    def _encoded(self, session: Any, frames: NDArray[np.uint8], joints: F32 | None) -> F32:
        if frames.dtype != np.uint8 or frames.shape[1:] != self.manifest.frame:
            height, width, channels = self.manifest.frame
            raise ValueError(f"the model takes {width} x {height} x {channels} uint8 pictures, not {frames.shape[1:]} {frames.dtype}")
        feed: dict[str, NDArray[Any]] = {"frames": frames}
        if self.manifest.proprioception:
            shape = (len(frames), self.manifest.proprioception)
            feed["joints"] = np.full(shape, np.nan, np.float32) if joints is None else joints.astype(np.float32, copy=False)
            if feed["joints"].shape != shape:
                raise ValueError(f"the model takes joints of shape {shape} with these pictures, not {feed['joints'].shape}")
        result: F32 = session.run(None, feed)[0]
        return result

    def rollout(self, context: Context, actions: F32) -> F32:
        """Imagined latents ``(N, H, D)`` after each of ``actions (N, H, A)``."""
        most = self.manifest.horizon or actions.shape[1]
        passes: list[F32] = []
        for begin in range(0, actions.shape[1], most):
            now = actions[:, begin : begin + most]
            if passes:
                context = context.after(actions[:, begin - most : begin], passes[-1])
            passes.append(self._rollout.run(None, {"latents": context.latents, "past_actions": context.actions, "actions": now})[0])
        return passes[0] if len(passes) == 1 else np.concatenate(passes, axis=1)

    def distance(self, latents: F32, goal: F32) -> F32:
        """Temporal distance in steps ``(N,)`` from ``latents (N, D)`` to ``goal (D,)``."""
        result: F32 = self._heads.run(None, {"latents": latents, "goal": goal})[0]
        return result

    def propose(self, latents: F32, goal: F32, steps_left: NDArray[np.floating]) -> ActionMixture:
        """The actor's action distributions for ``latents (N, D)``; ``steps_left (N,)`` is clipped to the range that it was trained on."""
        least, most = self.manifest.actor_steps
        steps = np.clip(steps_left, least, most).astype(np.float32)
        logits, mean, std = self._actor.run(None, {"latents": latents, "goal": goal, "steps_left": steps})
        return ActionMixture(logits, mean, std)
