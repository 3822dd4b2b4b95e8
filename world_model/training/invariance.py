"""The encoder learns to see one scene in many looks.

Trained on randomised looks from the start, a JEPA fills its latent with what is easiest to predict: camera, light and colours, which do not
change within an episode ("slow features", Sobal et al. 2022, arXiv 2211.10831). So the world model is trained on one look, and then its encoder
on pairs of pictures of the same moment, ordinary and changed, until both mean the same: the frozen first encoder's latent of the ordinary one.
The predictor stays as it is.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from world_model.checkpoint import load_checkpoint, read_meta, save_checkpoint
from world_model.config import TrainConfig
from world_model.data import DatasetError, EpisodeDataset
from world_model.jepa import Jepa
from world_model.training.augmentation import Augmentation
from world_model.training.draws import generator_for
from world_model.training.episodes import Episodes, encode_all
from world_model.training.identity import require_same
from world_model.training.log import Report
from world_model.training.schedule import learning_rate, set_rate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_REPORT_EVERY = 50
_CHECKPOINT_EVERY = 500
# Frames of a step come from so few episodes that reading them costs less than learning from them.
_EPISODES_OF_A_STEP = 24


@dataclass(frozen=True)
class PairedLooks:
    """The same moments in two looks: episode e of ``changed`` is episode ``e`` of ``ordinary``, and neither is among the ``held_out`` last ones."""

    ordinary: EpisodeDataset
    changed: EpisodeDataset
    held_out: int

    def __post_init__(self) -> None:
        first, second = self.ordinary, self.changed
        same = first.actions().shape == second.actions().shape and np.array_equal(first.actions(), second.actions())
        if not same or first.frame != second.frame:
            raise DatasetError(f"{second.directory} does not hold the episodes of {first.directory}; collect it with the same task, seed and steps")

    def changed_episodes(self) -> Episodes:
        """The changed look as data to encode."""
        return Episodes(self.changed, self.changed.actions(), None, (self.changed.description,), self.changed.joints())

    def draw(self, step: int, batch: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Pictures of ``batch`` moments, ordinary and changed: two ``(B, h, w, 3) uint8``."""
        generator = generator_for(seed, step, "windows")
        episodes = torch.randint(self.ordinary.episodes - self.held_out, (_EPISODES_OF_A_STEP,), generator=generator).numpy()
        moments = torch.randint(self.ordinary.steps + 1, (batch,), generator=generator).numpy()
        episodes = np.resize(episodes, batch)
        return self.ordinary.windows(episodes, moments, 1)[:, 0], self.changed.windows(episodes, moments, 1)[:, 0]


def train_invariance(fabric: Fabric, config: TrainConfig, jepa: Jepa, data: Episodes, looks: PairedLooks, out: Path, report: Report) -> None:
    """Train the encoder of ``jepa`` in place; an interrupted run goes on from ``out/invariance.safetensors``.

    Raises:
        CheckpointError: ``out`` holds another run.
    """
    settings, file = config.invariance, out / "invariance.safetensors"
    jepa.to(fabric.device).eval()  # the projector's statistics are those of the first encoder
    teacher = copy.deepcopy(jepa).requires_grad_(False)
    seeing: list[nn.Module] = [jepa.encoder, jepa.projector]
    parameters = [p for module in seeing for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    identity = _identity(config, data, looks)
    start = 0
    if file.is_file():
        meta = read_meta(file)
        require_same(meta.get("identity"), identity, out)
        load_checkpoint(file, {"jepa": jepa}, optimizer)
        start = int(meta["step"])
    augment = Augmentation(settings.augmentation, config.seed, fabric.device)
    for step in range(start, settings.steps):
        done = step + 1
        set_rate(optimizer, learning_rate(step, settings.steps, settings.learning_rate, settings.warmup))
        ordinary, changed = (torch.from_numpy(frames).to(fabric.device) for frames in looks.draw(step, settings.batch, config.seed))
        changed = augment(changed[:, None], step, 0, settings.batch)[:, 0]
        with torch.no_grad():
            target = teacher.encode(ordinary)
        loss = functional.mse_loss(jepa.encode(changed), target)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimizer.step()
        if done % _REPORT_EVERY == 0 or done == settings.steps:
            report("invariance", done, settings.steps, {"difference": float(loss.detach())})
        if done % _CHECKPOINT_EVERY == 0 or done == settings.steps:
            save_checkpoint(file, {"jepa": jepa}, optimizer, {}, {"step": done, "identity": identity})


def look_error(jepa: Jepa, ordinary: Tensor, looks: PairedLooks) -> float:
    """Mean squared difference between latents ``(E, T+1, D)`` of held-out ``ordinary`` pictures and those of the same moments in the other look."""
    last = np.arange(looks.changed.episodes - len(ordinary), looks.changed.episodes)
    frames, joints = looks.changed.windows(last, np.zeros_like(last), looks.changed.steps + 1), looks.changed.joints()
    return float((encode_all(jepa, frames, None if joints is None else joints[last]) - ordinary).pow(2).mean())


def _identity(config: TrainConfig, data: Episodes, looks: PairedLooks) -> dict[str, Any]:
    whole = dataclasses.asdict(config)
    kept = {key: whole[key] for key in ("seed", "held_out", "model", "jepa", "invariance")}
    kept["jepa"].pop("checkpoint_every")
    same: dict[str, Any] = json.loads(json.dumps({**kept, "data": list(data.descriptions), "looks": looks.changed.description}))
    return same
