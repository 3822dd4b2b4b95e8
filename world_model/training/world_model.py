"""Encoder and predictor, end to end from frames and actions."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from world_model.checkpoint import load_checkpoint, read_meta, save_checkpoint
from world_model.config import ConfigError, TrainConfig
from world_model.data import DatasetError
from world_model.jepa import Jepa
from world_model.objectives import effective_rank
from world_model.objectives.all_ranks import rows_of_all, summed, world_size
from world_model.training.episodes import Episodes, WindowBatch, Windows
from world_model.training.identity import identity_of, require_same
from world_model.training.log import Log, Report
from world_model.training.step import Stepped, TrainingStep
from world_model.training.weights_average import estimate_batch_norm

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_REPORT_EVERY = 10
_LOG_EVERY = 50
_STATISTICS_BATCHES = 50


class TrainingDivergedError(ValueError):
    """The loss is no number any more."""


def train_world_model(fabric: Fabric, config: TrainConfig, jepa: Jepa, data: Episodes, out: Path, report: Report) -> None:
    """Train ``jepa`` in place; an interrupted run goes on from its last checkpoint, ``out/jepa.safetensors``, to exactly the same weights.

    Raises:
        DatasetError: the episodes are shorter than a window.
        ConfigError: the windows of a step cannot be shared out among the processes.
        CheckpointError: ``out`` holds another run.
        TrainingDivergedError: the loss or its gradient is not finite.
    """
    settings, file = config.jepa, out / "jepa.safetensors"
    windows = draw_windows(fabric, config, data)
    identity = identity_of(config, data, fabric)
    meta: dict[str, Any] = {"step": 0, "seconds": 0.0, "identity": identity}
    if file.is_file():
        meta = read_meta(file)
        require_same(meta.get("identity"), identity, out)
    if jepa.proprioception is not None and data.joints is not None:
        jepa.proprioception.measure(torch.from_numpy(data.joints[: -config.held_out]))
    train_step = TrainingStep(fabric, config, jepa)
    if file.is_file():
        load_checkpoint(file, train_step.modules, train_step.optimizer)
    start = int(meta["step"])
    log = Log(out, start) if fabric.is_global_zero else None
    began = last = time.perf_counter()
    for batch in windows.steps(start, settings.steps, fabric.device):
        stepped, done = train_step(batch), batch.step + 1
        ended, keep = done == settings.steps, done % settings.checkpoint_every == 0
        reported = ended or done % _REPORT_EVERY == 0
        if not (reported or keep):
            continue
        numbers = _numbers(stepped, done)
        if ended or done % _LOG_EVERY == 0:
            row = numbers | {"rank": _rank(jepa, stepped.latents), "rate": train_step.optimizer.param_groups[0]["lr"]}
            if log is not None:
                log.write(done, row, jepa.token_dim)
        if reported:
            now = time.perf_counter()
            speed = settings.batch * settings.window * ((done - 1 - start) % _REPORT_EVERY + 1) / (now - last)
            last = now
            report("world model", done, settings.steps, {"loss": numbers["loss"], "frames/s": speed})
        if (keep or ended) and fabric.is_global_zero:
            passed = round(meta["seconds"] + time.perf_counter() - began, 1)
            save_checkpoint(file, train_step.modules, train_step.optimizer, {}, {"step": done, "seconds": passed, "identity": identity})
    if log is not None:
        log.close()
    if settings.average > 0:
        _take_average(train_step, windows)


def draw_windows(fabric: Fabric, config: TrainConfig, data: Episodes) -> Windows:
    """The windows of this process, from all episodes but those held out.

    Raises:
        DatasetError: the episodes are shorter than a window.
        ConfigError: the windows of a step cannot be shared out among the processes.
    """
    settings, length = config.jepa, data.reader.steps + 1
    if settings.window > length:
        raise DatasetError(f"the episodes have {length} frames, too few for windows of {settings.window}")
    check_shares(config, fabric.world_size)
    episodes = data.reader.episodes - config.held_out
    return Windows(data, episodes, settings.batch, settings.window, config.seed, fabric.global_rank, fabric.world_size)


def check_shares(config: TrainConfig, processes: int) -> None:
    """Raises ConfigError unless each process gets as many windows."""
    if config.jepa.batch % processes:
        raise ConfigError(f"jepa.batch is {config.jepa.batch}, must be a multiple of the number of processes, {processes}")


@torch.no_grad()
def _numbers(stepped: Stepped, done: int) -> dict[str, float]:
    """Loss, terms and gradient as one process would have them on the union of all batches."""
    every = summed(torch.stack([stepped.loss, *stepped.terms.values()]).float()) / world_size()
    numbers = dict(zip(("loss", *stepped.terms), every.tolist(), strict=True)) | {"gradient": float(stepped.gradient)}
    if not (math.isfinite(numbers["loss"]) and math.isfinite(numbers["gradient"])):
        what = f"the loss is {numbers['loss']} and its gradient {numbers['gradient']} after {done} steps"
        raise TrainingDivergedError(f"{what}; lower jepa.learning_rate, and delete the run to begin anew")
    return numbers


@torch.no_grad()
def _rank(jepa: Jepa, latents: Tensor) -> float:
    return effective_rank(rows_of_all(latents.float().reshape(-1, jepa.token_dim)))


@torch.no_grad()
def _take_average(train_step: TrainingStep, windows: Windows) -> None:
    """Put the averaged weights in place of the last ones, with the statistics that they have on windows such as those of training."""
    jepa, average, first = train_step.jepa, train_step.average, train_step.config.jepa.steps
    assert average is not None
    jepa.load_state_dict(average.module.state_dict())

    def encoded(batch: WindowBatch) -> tuple[Tensor, Tensor | None]:
        frames = train_step.augment(batch.frames, batch.step, batch.first, windows.batch).flatten(0, 1)
        return frames, None if batch.joints is None else batch.joints.flatten(0, 1)

    more = windows.steps(first, first + _STATISTICS_BATCHES, train_step.fabric.device)
    estimate_batch_norm(jepa, (encoded(batch) for batch in more))
