"""How the model learns: the world model end to end from frames and actions, then the critic and the actor on its frozen latents."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from world_model.actor import GoalActor
from world_model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from world_model.config import TrainConfig
from world_model.data import DatasetError, EpisodeDataset
from world_model.encoders.registry import build_encoder
from world_model.heads import TemporalDistanceHead
from world_model.jepa import Jepa
from world_model.objectives import effective_rank, expectile
from world_model.predictor import HistoryPredictor
from world_model.probes import probe_errors

Report = Callable[[str, int, int, dict[str, float]], None]

_CHECKPOINT_EVERY = 250
_ENCODE_BATCH = 512
_COLLAPSED_RANK = 2.0
# What an interrupted run must share with the one that goes on; critic and actor are trained anew anyway.
_SHAPES_THE_WORLD_MODEL = ("seed", "held_out", "model", "jepa")


@dataclasses.dataclass(frozen=True)
class Learned:
    """The three networks of a bundle."""

    jepa: Jepa
    distance: TemporalDistanceHead
    actor: GoalActor

    def modules(self) -> dict[str, nn.Module]:
        """By name, as in a checkpoint."""
        return {"jepa": self.jepa, "distance": self.distance, "actor": self.actor}


@dataclasses.dataclass(frozen=True)
class Episodes:
    """Data sets put together, and what they are.

    ``frames (E, T+1, h, w, 3) uint8``, ``actions (E, T, A) float32``, ``state (E, T+1, 6)`` for probes.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    state: NDArray[np.float32]
    descriptions: tuple[dict[str, Any], ...]


def open_episodes(directories: list[Path], held_out: int) -> Episodes:
    """Open data sets of one kind; the first one's last ``held_out`` episodes come last.

    Raises:
        DatasetError: a set is damaged, or two sets differ in the meaning of an action, in picture size or in length.
    """
    sets = [EpisodeDataset(directory) for directory in directories]
    for other in sets[1:]:
        for key in ("tool_step", "frame"):
            if other.description.get(key) != sets[0].description.get(key):
                raise DatasetError(f"{other.directory} and {sets[0].directory} differ in {key}: they cannot be trained on together")
        if other.steps != sets[0].steps:
            raise DatasetError(f"{other.directory} and {sets[0].directory} differ in steps: they cannot be trained on together")
    if sets[0].episodes <= held_out:
        raise DatasetError(f"{sets[0].directory} holds {sets[0].episodes} episodes; {held_out} are held out, so more are needed")
    ordered = [*sets[1:], sets[0]]  # held-out episodes come from the first set, at the end
    return Episodes(
        frames=np.concatenate([s.frames() for s in ordered]),
        actions=np.concatenate([s.actions() for s in ordered]),
        state=np.concatenate([s.state() for s in ordered]),
        descriptions=tuple(s.description for s in sets),
    )


def build(config: TrainConfig, frame: tuple[int, int, int], action_dim: int) -> Learned:
    """Untrained networks of the configured shape, seeded by the configuration."""
    torch.manual_seed(config.seed)
    model = config.model
    encoder = build_encoder(model.encoder, frame[0], frame[1])
    predictor = HistoryPredictor(model.latent_dim, action_dim, model.history, model.width, model.depth)
    return Learned(
        jepa=Jepa(encoder, encoder.feature_dim, predictor, model.latent_dim),
        distance=TemporalDistanceHead(model.latent_dim, config.distance.width, config.distance.embedding_dim),
        actor=GoalActor(
            model.latent_dim,
            action_dim,
            config.actor.width,
            config.actor.depth,
            config.actor.components,
            config.actor.most_steps,
            config.actor.dropout,
        ),
    )


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Warm-up, constant to half time, then linearly down to 2 %."""
    left = (steps - step) / steps
    return peak * min(1.0, (step + 1) / warmup) * min(1.0, max(0.02, 2.0 * left))


def train_jepa(config: TrainConfig, learned: Learned, data: Episodes, out: Path, report: Report) -> None:
    """Train encoder and predictor together; a checkpoint every 250 steps, from which an interrupted run goes on."""
    jepa, settings = learned.jepa, config.jepa
    parameters = [p for p in jepa.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    generator = torch.Generator().manual_seed(config.seed)
    frames, actions = torch.from_numpy(data.frames), torch.from_numpy(data.actions)
    train_episodes = len(actions) - config.held_out
    length = actions.shape[1] + 1
    if settings.window > length:
        raise DatasetError(f"the episodes have {length} frames, too few for windows of {settings.window}")
    file = out / "jepa.safetensors"
    start = 0
    whole = dataclasses.asdict(config)
    identity = {**{key: whole[key] for key in _SHAPES_THE_WORLD_MODEL}, "data": list(data.descriptions)}
    if file.is_file():
        extra, meta = load_checkpoint(file, {"jepa": jepa}, optimizer)
        if json.loads(json.dumps(meta["identity"])) != json.loads(json.dumps(identity)):
            raise CheckpointError(f"{out} holds a run of another configuration or other data; choose another --out or delete it")
        generator.set_state(extra["generator"])
        start = int(meta["step"])
    log = out / "log.csv"
    # Rows from after the checkpoint will be written again.
    kept = [line for line in log.read_text().splitlines()[1:] if int(line.split(",")[0]) <= start] if start and log.is_file() else []
    log.write_text("\n".join(["step,next,rollout,sigreg,rank", *kept]) + "\n")
    for step in range(start, settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings.steps, settings.learning_rate, settings.warmup)
        episodes = torch.randint(train_episodes, (settings.batch,), generator=generator)
        begins = torch.randint(length - settings.window + 1, (settings.batch,), generator=generator)
        index = begins[:, None] + torch.arange(settings.window)
        windows = frames[episodes[:, None], index]
        latents = jepa.encode(windows.flatten(0, 1)).view(settings.batch, settings.window, -1)
        terms = jepa.losses(latents, actions[episodes[:, None], index[:, :-1]], settings.sigreg_directions, generator)
        loss = terms["next"] + terms["rollout"] + settings.sigreg_weight * terms["sigreg"]
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimizer.step()
        done = step + 1
        if done % 50 == 0 or done == settings.steps:
            numbers = {name: float(term.detach()) for name, term in terms.items()}
            numbers["rank"] = effective_rank(latents.detach().flatten(0, 1))
            if numbers["rank"] < _COLLAPSED_RANK:
                numbers["collapsed"] = 1.0
            with log.open("a") as lines:
                csv.writer(lines).writerow([done, *(f"{numbers[key]:.5f}" for key in ("next", "rollout", "sigreg", "rank"))])
            report("world model", done, settings.steps, numbers)
        if done % _CHECKPOINT_EVERY == 0 or done == settings.steps:
            save_checkpoint(file, {"jepa": jepa}, optimizer, {"generator": generator.get_state()}, {"step": done, "identity": identity})


@torch.inference_mode()
def encode_all(jepa: Jepa, frames: NDArray[np.uint8]) -> Tensor:
    """Latents ``(E, T+1, D)`` of ``frames (E, T+1, h, w, 3)``."""
    jepa.eval()
    flat = frames.reshape(-1, *frames.shape[2:])
    chunks = [jepa.encode(torch.from_numpy(flat[i : i + _ENCODE_BATCH])) for i in range(0, len(flat), _ENCODE_BATCH)]
    return torch.cat(chunks).view(*frames.shape[:2], -1)


def train_distance(config: TrainConfig, head: TemporalDistanceHead, latents: Tensor, report: Report) -> None:
    """Regress the temporal distance on pairs of frames of one episode, ``latents (E, T+1, D)``."""
    settings = config.distance
    optimizer = torch.optim.AdamW(head.parameters(), settings.learning_rate)
    generator = torch.Generator().manual_seed(config.seed + 1)
    count, length = latents.shape[:2]
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings.steps, settings.learning_rate, 100)
        episodes = torch.randint(count, (settings.batch,), generator=generator)
        first, second = torch.randint(length, (2, settings.batch), generator=generator)
        steps_apart = (first - second).abs().float()
        loss = expectile(steps_apart - head(latents[episodes, first], latents[episodes, second]), settings.expectile)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        if (step + 1) % 500 == 0:
            report("distance head", step + 1, settings.steps, {"loss": float(loss.detach())})


@dataclasses.dataclass(frozen=True)
class HindsightBatch:
    """Frames of one episode as start and goal: ``latents``, ``goals (B, D)``, ``steps (B,) float32``, ``actions (B, A)``."""

    latents: Tensor
    goals: Tensor
    steps: Tensor
    actions: Tensor


def draw_hindsight(latents: Tensor, actions: Tensor, batch: int, most_steps: int, generator: torch.Generator) -> HindsightBatch:
    """Random starts and goals 1 to ``most_steps`` ahead in the same episode."""
    count, length = actions.shape[:2]
    episodes = torch.randint(count, (batch,), generator=generator)
    begin = torch.randint(length, (batch,), generator=generator)
    reach = (length - begin).clamp(max=most_steps)
    steps = 1 + (torch.rand(batch, generator=generator) * reach).long().clamp(max=most_steps - 1)
    steps = torch.minimum(steps, reach)
    return HindsightBatch(latents[episodes, begin], latents[episodes, begin + steps], steps.float(), actions[episodes, begin])


def train_actor(config: TrainConfig, actor: GoalActor, latents: Tensor, actions: Tensor, report: Report) -> None:
    """Hindsight imitation: which action was taken where, given what the scene became. The last ``held_out`` episodes validate."""
    settings = config.actor
    optimizer = torch.optim.AdamW(actor.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    generator = torch.Generator().manual_seed(config.seed + 2)
    torch.manual_seed(config.seed + 3)  # dropout
    train = len(latents) - config.held_out
    check = draw_hindsight(latents[train:], actions[train:], 4096, settings.most_steps, torch.Generator().manual_seed(config.seed + 4))
    actor.train()
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            decay = 0.5 * (1 + math.cos(math.pi * step / settings.steps)) + 0.01
            group["lr"] = settings.learning_rate * min(1.0, (step + 1) / 100) * decay
        pairs = draw_hindsight(latents[:train], actions[:train], settings.batch, settings.most_steps, generator)
        blur, goal_blur = (settings.noise * torch.randn(pairs.latents.shape, generator=generator) for _ in range(2))
        loss = actor.negative_log_likelihood(pairs.latents + blur, pairs.goals + goal_blur, pairs.steps, pairs.actions).mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(actor.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 500 == 0 or step + 1 == settings.steps:
            actor.eval()
            with torch.inference_mode():
                held_out = float(actor.negative_log_likelihood(check.latents, check.goals, check.steps, check.actions).mean())
            actor.train()
            report("actor", step + 1, settings.steps, {"train": float(loss.detach()), "held out": held_out})
    actor.eval()


def train(config: TrainConfig, directories: list[Path], out: Path, report: Report, world_model: Path | None = None) -> dict[str, Any]:
    """Train everything; writes ``out/jepa.safetensors`` and ``out/learned.safetensors`` and returns the probes of the latent.

    With ``world_model``, the folder of an earlier run, its encoder and predictor are taken as they are and only critic and actor are trained, on all
    the data: the way to use take-over episodes.

    Raises:
        DatasetError: the data cannot be used.
        CheckpointError: ``out`` holds a run of another configuration, or ``world_model`` none of this one.
    """
    torch.set_num_threads(config.threads)
    data = open_episodes(directories, config.held_out)
    for description in data.descriptions:
        if description.get("task") not in config.tasks:
            raise DatasetError(f"'{config.name}' is for {', '.join(config.tasks)}, but data of task '{description.get('task')}' was given")
    height, width = data.frames.shape[2:4]
    learned = build(config, (height, width, 3), data.actions.shape[2])
    out.mkdir(parents=True, exist_ok=True)
    if world_model is None:
        learned.jepa.train()
        train_jepa(config, learned, data, out, report)
    else:
        load_checkpoint(world_model / "learned.safetensors", {"jepa": learned.jepa}, None)
    report("encoding", 0, 1, {})
    latents = encode_all(learned.jepa, data.frames).clone()
    held_out = slice(-config.held_out, None)
    fitted = slice(0, min(400, len(latents) - config.held_out))
    probes = probe_errors(latents[held_out].numpy(), data.state[held_out], latents[fitted].numpy(), data.state[fitted])
    report("encoding", 1, 1, probes)
    train_distance(config, learned.distance, latents[: -config.held_out], report)
    train_actor(config, learned.actor, latents, torch.from_numpy(data.actions), report)
    meta = {"config": dataclasses.asdict(config), "data": list(data.descriptions), "episodes": len(latents), "probes": probes}
    save_checkpoint(out / "learned.safetensors", learned.modules(), None, {}, meta)
    return probes
