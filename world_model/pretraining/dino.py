"""DINO self-distillation (Caron et al., arXiv 2104.14294) of the DINOv2 architecture on the frames of a data set: no labels, no actions."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Dinov2Model

from world_model.checkpoint import load_checkpoint, read_meta, save_checkpoint
from world_model.data import DatasetError, EpisodeDataset, EpisodeReader, join
from world_model.objectives import effective_rank
from world_model.objectives.distillation import momentum_at
from world_model.pretraining.config import DistillationConfig, PretrainConfig
from world_model.pretraining.networks import DinoNetwork
from world_model.pretraining.result import probe_features, save_backbone
from world_model.pretraining.self_distillation import Centre, Monitors, Sinkhorn, assignment_monitors, distillation_warning, patch_loss, view_loss
from world_model.pretraining.views import GLOBALS, multi_crop
from world_model.training.identity import require_same
from world_model.training.log import CollapseWarning, Report
from world_model.training.world_model import TrainingDivergedError

_CHECKPOINT_EVERY = 100
_LOOK_EVERY = 20
_COLUMNS = ("loss", "entropy", "kl_to_uniform", "rank")
_LEAST_LEARNING_RATE = 0.01


class Pupils:
    """Student and teacher with what centres the teacher's assignments."""

    def __init__(self, config: PretrainConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        settings = config.distillation
        self.student = DinoNetwork(config.architecture, settings).to(device)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.centres = nn.ModuleDict({name: _centring(settings).to(device) for name in ("pictures", "patches")})

    def modules(self) -> dict[str, nn.Module]:
        """By name, as in a checkpoint."""
        return {"student": self.student, "teacher": self.teacher, "centres": self.centres}

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the teacher towards the student."""
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - momentum)


def _centring(settings: DistillationConfig) -> nn.Module:
    return Sinkhorn() if settings.centring == "sinkhorn" else Centre(settings.prototypes, settings.centre_momentum)


def cosine(step: int, steps: int, first: float, last: float) -> float:
    """From ``first`` to ``last`` along half a cosine."""
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def teacher_temperature(step: int, settings: DistillationConfig) -> float:
    """Rises linearly from its start: a sharp teacher at first keeps the outputs from becoming uniform (arXiv 2104.14294, appendix C)."""
    share = min(1.0, step / settings.teacher_warmup)
    return settings.teacher_start + share * (settings.teacher_temperature - settings.teacher_start)


def optimiser(config: PretrainConfig, student: DinoNetwork) -> torch.optim.AdamW:
    """AdamW; biases, norms, tokens and positions are not decayed."""
    decayed = {name for name, p in student.named_parameters() if p.ndim >= 2 and "token" not in name and "position" not in name}
    groups = [[p for name, p in student.named_parameters() if (name in decayed) == wanted] for wanted in (True, False)]
    return torch.optim.AdamW([{"params": groups[0], "weight_decay": config.weight_decay}, {"params": groups[1], "weight_decay": 0.0}], lr=1e-3)


def loss_of(pupils: Pupils, frames: Tensor, step: int, config: PretrainConfig, generator: torch.Generator) -> tuple[Tensor, Callable[[], Monitors]]:
    """The loss for ``frames (B, h, w, 3) uint8`` and, when it is asked for, what the teacher's outputs say of collapse."""
    settings, count = config.distillation, len(frames)
    views = multi_crop(frames, config.architecture.size, config.views, generator)
    temperature = teacher_temperature(step, settings)
    side = config.architecture.size // config.architecture.patch
    masked = _masks(len(views.large), side * side, settings, generator).to(frames.device)
    with torch.no_grad():
        taught = pupils.teacher(views.large)
        assigned = pupils.centres["pictures"](taught.logits, temperature).view(GLOBALS, count, -1)
    seen = pupils.student(views.large, masked if settings.patch_weight else None)
    small = pupils.student(views.small).logits.view(config.views.locals, count, -1) if config.views.locals else seen.logits[:0].view(0, count, -1)
    loss = view_loss(torch.cat([seen.logits.view(GLOBALS, count, -1), small]), assigned, settings.student_temperature)
    if settings.patch_weight and int(masked.sum()) > 1:
        with torch.no_grad():
            hidden = pupils.centres["patches"](pupils.teacher.head(taught.patches[masked]), temperature)
        loss = loss + settings.patch_weight * patch_loss(pupils.student.head(seen.patches[masked]), hidden, settings.student_temperature)
    return loss, lambda: assignment_monitors(assigned.flatten(0, 1), effective_rank(taught.features.float()))


def _masks(pictures: int, patches: int, settings: DistillationConfig, generator: torch.Generator) -> Tensor:
    """Half of the pictures keep all patches, as in iBOT; of the others each patch is hidden with the configured probability."""
    chosen = torch.rand(pictures, 1, generator=generator) < 0.5
    return chosen & (torch.rand(pictures, patches, generator=generator) < settings.masked)


def pretrain(config: PretrainConfig, directories: list[Path], out: Path, report: Report) -> dict[str, Any]:
    """Train; writes ``out/encoder``, a folder for ``Dinov2Model.from_pretrained``, and ``out/report.json``, whose content is returned.

    An interrupted run goes on from its last checkpoint to the same curve. A ``CollapseWarning`` is given while it happens.

    Raises:
        DatasetError: the data cannot be used.
        CheckpointError: ``out`` holds a run of another configuration or other data.
        TrainingDivergedError: the loss is no number any more.
    """
    torch.set_num_threads(config.threads)
    sets = [EpisodeDataset(directory) for directory in directories]
    if sets[0].episodes <= config.held_out:
        raise DatasetError(f"{sets[0].directory} holds {sets[0].episodes} episodes; {config.held_out} are held out, so more are needed")
    data = join([*sets[1:], sets[0]])
    identity = {"config": dataclasses.asdict(config), "data": [s.description for s in sets], "episodes": data.episodes}
    out.mkdir(parents=True, exist_ok=True)
    pupils = Pupils(config, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    course = _train(config, pupils, data, out, json.loads(json.dumps(identity)), report)
    save_backbone(pupils.teacher.backbone, out / "encoder")
    report("judging features", 0, 1, {})
    trained = Dinov2Model.from_pretrained(out / "encoder", use_safetensors=True)
    untrained = Pupils(config, torch.device("cpu")).teacher.backbone
    probes = probe_features(trained, data, config.held_out)
    probes |= {f"untrained {name}": found for name, found in probe_features(untrained, data, config.held_out).items()}
    report("judging features", 1, 1, {})
    result = {"config": identity["config"], "seconds_per_step": round(course.seconds / config.steps, 3), **dataclasses.asdict(course.monitors)}
    result |= {"warnings": course.warned, "linear_probe_r2": probes}
    (out / "report.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


_UNSEEN = Monitors(0.0, 0.0, 0.0)


@dataclasses.dataclass
class Course:
    """How far a run is: ``step`` steps done in ``seconds`` of training, the last monitors, and every warning so far."""

    step: int = 0
    seconds: float = 0.0
    monitors: Monitors = _UNSEEN
    warned: list[str] = dataclasses.field(default_factory=list)


def _train(config: PretrainConfig, pupils: Pupils, data: EpisodeReader, out: Path, identity: dict[str, Any], report: Report) -> Course:
    optimizer = optimiser(config, pupils.student)
    generator = torch.Generator().manual_seed(config.seed)
    device = next(pupils.student.parameters()).device
    file, log = out / "pretraining.safetensors", out / "log.csv"
    course = _resume(file, identity, pupils, optimizer, generator) if file.is_file() else Course()
    kept = [line for line in log.read_text().splitlines()[1:] if int(line.split(",")[0]) <= course.step] if course.step and log.is_file() else []
    log.write_text("\n".join([",".join(("step", *_COLUMNS)), *kept]) + "\n")
    began = time.perf_counter() - course.seconds
    for step in range(course.step, config.steps):
        _schedule(optimizer, step, config)
        loss, look = loss_of(pupils, _draw(data, config, generator).to(device), step, config, generator)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if step < config.distillation.freeze_last_layer:
            pupils.student.head.prototypes.grad = None
        nn.utils.clip_grad_norm_(pupils.student.parameters(), config.clip)
        optimizer.step()
        pupils.follow(momentum_at(step, config.steps, config.distillation.momentum))
        course.step, course.seconds = step + 1, time.perf_counter() - began
        ended = course.step == config.steps
        if course.step % _LOOK_EVERY == 0 or ended:
            _look(course, float(loss.detach()), look, log, config, report)
        if course.step % _CHECKPOINT_EVERY == 0 or ended:
            meta = {"identity": identity, "course": dataclasses.asdict(course)}
            save_checkpoint(file, pupils.modules(), optimizer, {"generator": generator.get_state()}, meta)
    return course


def _resume(file: Path, identity: dict[str, Any], pupils: Pupils, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> Course:
    meta = read_meta(file)
    require_same(meta.get("identity"), identity, file.parent)
    extra, _ = load_checkpoint(file, pupils.modules(), optimizer)
    generator.set_state(extra["generator"])
    return Course(**{**meta["course"], "monitors": Monitors(**meta["course"]["monitors"])})


def _schedule(optimizer: torch.optim.Optimizer, step: int, config: PretrainConfig) -> None:
    """Warm-up and half a cosine of the learning rate; the decay of weights grows."""
    rate = min(1.0, (step + 1) / config.warmup) * cosine(step, config.steps, config.learning_rate, _LEAST_LEARNING_RATE * config.learning_rate)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.param_groups[0]["weight_decay"] = cosine(step, config.steps, config.weight_decay, config.last_weight_decay)


def _look(course: Course, loss: float, monitors: Callable[[], Monitors], log: Path, config: PretrainConfig, report: Report) -> None:
    """Log, report and warn."""
    if not math.isfinite(loss):
        raise TrainingDivergedError(f"the loss is {loss} after {course.step} steps; lower learning_rate, and delete the run to begin anew")
    course.monitors = monitors()
    numbers = {"loss": loss, **dataclasses.asdict(course.monitors)}
    with log.open("a") as lines:
        csv.writer(lines, lineterminator="\n").writerow([course.step, *(f"{numbers[key]:.5f}" for key in _COLUMNS)])
    report("self-distillation", course.step, config.steps, numbers)
    warning = distillation_warning(course.monitors, config.distillation.prototypes, config.batch)
    if warning is not None:
        course.warned.append(f"step {course.step}: {warning}")
        warnings.warn(course.warned[-1], CollapseWarning, stacklevel=2)


def _draw(data: EpisodeReader, config: PretrainConfig, generator: torch.Generator) -> Tensor:
    """Random frames ``(B, h, w, 3)`` of the episodes that are not held out."""
    episodes = torch.randint(data.episodes - config.held_out, (config.batch,), generator=generator).numpy()
    frames = torch.randint(data.steps + 1, (config.batch,), generator=generator).numpy()
    return torch.from_numpy(np.ascontiguousarray(data.windows(episodes, frames, 1)[:, 0]))
