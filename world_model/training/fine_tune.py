"""A bundle goes on learning from new data: its predictor alone on the latents that it has, or, if asked, its encoder and heads as well.

Or another predictor, such as a faster one, learns on these latents from nothing: encoder, critic and actor stay what they are.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from world_model.bundle import WITNESS, Manifest, bundle_sha256, read_manifest
from world_model.checkpoint import save_checkpoint
from world_model.config import ConfigError, TrainConfig
from world_model.data import DatasetError, EpisodeDataset
from world_model.jepa import Jepa
from world_model.networks import load_networks
from world_model.predictors.registry import build_predictor
from world_model.recipe import config_of
from world_model.training.actor import train_actor
from world_model.training.compute import open_fabric
from world_model.training.distance import train_distance
from world_model.training.draws import generator_for
from world_model.training.episodes import Episodes, Windows, encode_all, encode_episodes, open_episodes
from world_model.training.learned import Learned
from world_model.training.log import Report
from world_model.training.open_loop import OpenLoopError, longest_horizon, open_loop_error
from world_model.training.schedule import cosine_rate, set_rate
from world_model.training.step import TrainingStep

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_HELD_OUT, _CHECKED = 0.2, 0.15
_WARMUP = 20
_CHECKS = 20
# What a bundle had and what comes of a run does not: both were measured with the predictor that was, and for other weights they are refused.
_NOT_CARRIED = {
    "surprise": "not calibrated: `latent-mpc surprise --record` does that",
    "heads": "those that were fitted on the bundle are refused: `latent-mpc head fit` makes new ones",
}


@dataclass(frozen=True)
class FineTuning:
    """``steps`` of ``batch`` windows; errors are reported up to ``horizon`` steps ahead.

    The encoder stays as it is unless ``train_encoder``: the latent's meaning, and all that was learned on it, rest on it.
    """

    steps: int = 1000
    batch: int = 64
    learning_rate: float = 2e-4
    train_encoder: bool = False
    horizon: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "horizon"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, must be at least 1")
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"learning_rate is {self.learning_rate}, must lie between 0 and 1")


def load_bundle(folder: Path) -> tuple[Manifest, TrainConfig, Learned]:
    """A bundle's manifest, the configuration that it was trained with, and its networks.

    Raises:
        BundleError: the bundle is damaged, or does not say how it was made.
        CheckpointError: its weights are not those of that configuration.
    """
    manifest = read_manifest(folder)
    return manifest, config_of(manifest), load_networks(folder, manifest)


def check_fits(manifest: Manifest, data: EpisodeDataset) -> None:
    """Refuse data that mean something else than a bundle.

    Raises:
        DatasetError: actions of another meaning, pictures of another size, or other joints.
    """
    said, where = data.description, data.directory
    for key, mine in (("tool_step", manifest.tool_step), ("action_space", manifest.action_space)):
        if json.loads(json.dumps(said.get(key) or {})) != json.loads(json.dumps(mine)):
            raise DatasetError(
                f"an action of {where} means something else than one of {manifest.name}: {key} is {_short(said.get(key))}, not {_short(mine)}"
            )
    if data.frame != manifest.frame:
        (h, w, _), (height, width, _) = data.frame, manifest.frame
        raise DatasetError(f"{where} has pictures of {w} x {h} pixels, {manifest.name} takes {width} x {height}")
    joints = said.get("joints")
    trained = manifest.joints or tuple((manifest.provenance.get("data") or [{}])[0].get("joints") or ())
    if joints and trained and tuple(joints) != tuple(trained):
        raise DatasetError(f"{where} is of an arm with the joints {', '.join(joints)}, {manifest.name} of one with {', '.join(trained)}")
    if manifest.proprioception:
        held = data.joints()
        if held is None or held.shape[-1] != manifest.proprioception:
            raise DatasetError(f"{manifest.name} is told {manifest.proprioception} joints, {where} holds {0 if held is None else held.shape[-1]}")


def fine_tune(
    bundle: Path, directories: list[Path], out: Path, settings: FineTuning, report: Report, other: TrainConfig | None = None
) -> dict[str, Any]:
    """Train a bundle further and write ``out`` as a run that can be exported; returns what ``fine_tuned`` of its manifest will say.

    With ``other``, the predictor of that configuration takes the place of the bundle's, untrained at first, and its name that of the bundle; errors
    before are still those of the bundle's.

    The last fifth of the first data set is held out for the report, some episodes before it choose the weights that are kept: those of the
    beginning are among them. Critic and actor stay as they are with the encoder, and go on learning with it.

    Raises:
        BundleError: the bundle is damaged or does not say how it was made.
        DatasetError: the data cannot be used with it.
        ConfigError: another predictor is asked for while the encoder learns, or it looks at another number of latents.
        CheckpointError: ``out`` holds a run.
    """
    if other is not None and settings.train_encoder:
        raise ConfigError("another predictor learns on latents that stay: leave out --train-encoder, or fine-tune the run afterwards")
    if other is not None and other.model.history != read_manifest(bundle).history:
        raise ConfigError(
            f"{other.name} looks at {other.model.history} latents, {bundle} at {read_manifest(bundle).history}: make model.history equal"
        )
    if (out / "learned.safetensors").is_file():
        raise DatasetError(f"{out} holds a finished run; choose another --out or delete it")
    manifest, config, learned = load_bundle(bundle)
    sets = [EpisodeDataset(directory) for directory in directories]
    for one in sets:
        check_fits(manifest, one)
    held, checked = max(1, round(_HELD_OUT * sets[0].episodes)), max(1, round(_CHECKED * sets[0].episodes))
    if sets[0].episodes < held + checked + 1:
        raise DatasetError(f"{directories[0]} holds {sets[0].episodes} episodes; fine-tuning needs at least {held + checked + 1}: give more data")
    previous = learned.jepa.predictor
    if other is not None:
        config = _with_predictor(config, other)
        learned.jepa.predictor = build_predictor(
            config.model.predictor, config.model.history, learned.jepa.tokens, learned.jepa.token_dim, manifest.action_dim
        )
    horizon = longest_horizon(learned.jepa, sets[0].steps, settings.horizon)
    window = min(config.jepa.window, sets[0].steps + 1)
    if horizon < 1 or window <= config.model.history:
        raise DatasetError(f"episodes of {sets[0].steps} steps are too short for {manifest.name}: it needs at least {config.model.history}")
    kept_config = config
    config = dataclasses.replace(config, seed=settings.seed, held_out=held, jepa=_schedule(config, settings, window))
    fabric = open_fabric(config.compute, config.threads)
    data = open_episodes(directories, held)
    for module in (*learned.modules().values(), previous):
        module.to(fabric.device)
    spans = _Spans(data.reader.episodes - held - checked, data.reader.episodes - held)
    report("encoding", 0, 1, {})
    latents, actions = encode_episodes(learned.jepa, data).clone(), torch.from_numpy(data.actions)
    taught, learned.jepa.predictor = learned.jepa.predictor, previous
    before = open_loop_error(learned.jepa, latents[spans.held_out :], actions[spans.held_out :], horizon)
    learned.jepa.predictor = taught
    report("encoding", 1, 1, {})
    if settings.train_encoder:
        kept = _train_whole(fabric, config, learned.jepa, data, spans, horizon, report)
        latents = encode_episodes(learned.jepa, data).clone()
        shorter = dataclasses.replace(config.distance, steps=settings.steps), dataclasses.replace(config.actor, steps=settings.steps)
        config = dataclasses.replace(config, distance=shorter[0], actor=shorter[1])
        train_distance(config, learned.distance, latents[:-held].to(fabric.device), report)
        train_actor(config, learned.actor, latents.to(fabric.device), actions.to(fabric.device), report)
    else:
        kept = _train_predictor(fabric, config, learned.jepa, latents, actions, spans, horizon, report)
    after = open_loop_error(learned.jepa, latents[spans.held_out :], actions[spans.held_out :], horizon)
    found = {
        "from": {"name": manifest.name, "sha256": bundle_sha256(manifest)},
        "encoder": "trained" if settings.train_encoder else "frozen",
        "kept_step": kept,
        "settings": dataclasses.asdict(settings),
        "episodes": {"trained_on": spans.checked, "chosen_by": spans.held_out - spans.checked, "held_out": held},
        "open_loop": {"before": before.to_json(), "after": after.to_json()},
        "not_carried": dict(_NOT_CARRIED),
    }
    out.mkdir(parents=True, exist_ok=True)
    found |= _keep_witness(bundle, manifest, out, settings)
    meta = {
        "config": dataclasses.asdict(kept_config),
        "model": learned.jepa.shape(),
        "data": [*data.descriptions, *manifest.provenance.get("data", [])],
        "episodes": data.reader.episodes,
        "probes": {},
        "witness": False,
        "fine_tuned": found,
    }
    save_checkpoint(out / "learned.safetensors", learned.modules(), None, {}, meta)
    return found


def _with_predictor(config: TrainConfig, other: TrainConfig) -> TrainConfig:
    """``config`` with the predictor and the name of ``other``, and windows that show it all the steps that it imagines at once."""
    least = config.model.history + (other.model.predictor.horizon if other.model.predictor.kind == "action_prefix" else 1)
    return dataclasses.replace(
        config,
        name=other.name,
        model=dataclasses.replace(config.model, predictor=other.model.predictor),
        jepa=dataclasses.replace(config.jepa, window=max(config.jepa.window, least)),
    )


@dataclass(frozen=True)
class _Spans:
    """Episodes are trained on up to ``checked``, choose the weights up to ``held_out``, and are reported from there on."""

    checked: int
    held_out: int


def _schedule(config: TrainConfig, settings: FineTuning, window: int) -> Any:
    return dataclasses.replace(
        config.jepa, steps=settings.steps, batch=settings.batch, learning_rate=settings.learning_rate, window=window, warmup=_WARMUP, average=0.0
    )


class _Best:
    """Keeps the weights that did best on the episodes that choose, those of the beginning included."""

    def __init__(self, jepa: Jepa, error: OpenLoopError) -> None:
        self._jepa = jepa
        self.step, self.ratio = 0, error.ratio
        self._weights = copy.deepcopy(jepa.state_dict())

    def offer(self, step: int, error: OpenLoopError) -> None:
        if error.ratio < self.ratio:
            self.step, self.ratio, self._weights = step, error.ratio, copy.deepcopy(self._jepa.state_dict())

    def restore(self) -> int:
        """Put them back; returns the step that they are from."""
        self._jepa.load_state_dict(self._weights)
        self._jepa.eval()
        return self.step


def _train_predictor(
    fabric: Fabric, config: TrainConfig, jepa: Jepa, latents: Tensor, actions: Tensor, spans: _Spans, horizon: int, report: Report
) -> int:
    """The terms ``next`` and ``rollout`` of training, on latents that do not move: nothing can collapse, so no objective is needed."""
    settings, device = config.jepa, fabric.device
    check = slice(spans.checked, spans.held_out)
    best = _Best(jepa, open_loop_error(jepa, latents[check], actions[check], horizon))
    optimizer = torch.optim.AdamW(jepa.predictor.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    last = latents.shape[1] - settings.window
    for step in range(settings.steps):
        generator = generator_for(config.seed, step, "windows")
        rows = torch.randint(spans.checked, (settings.batch,), generator=generator)[:, None]
        begins = torch.randint(last + 1, (settings.batch,), generator=generator)[:, None]
        seen = latents[rows, begins + torch.arange(settings.window)].to(device)
        taken = actions[rows, begins + torch.arange(settings.window - 1)].to(device)
        jepa.predictor.train()
        torch.manual_seed(config.seed + step)  # dropout
        predicted = jepa.predict_window(seen, taken)
        loss = functional.mse_loss(predicted.next, seen[:, 1:]) + functional.mse_loss(predicted.imagined, seen[:, jepa.predictor.history :])
        set_rate(optimizer, cosine_rate(step, settings.steps, settings.learning_rate, settings.warmup))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(jepa.predictor.parameters(), settings.clip)
        optimizer.step()
        if _looks(step + 1, settings.steps):
            error = open_loop_error(jepa, latents[check], actions[check], horizon)
            best.offer(step + 1, error)
            report("fine-tuning", step + 1, settings.steps, {"loss": float(loss.detach()), "share of copy": error.ratio})
    return best.restore()


def _train_whole(fabric: Fabric, config: TrainConfig, jepa: Jepa, data: Episodes, spans: _Spans, horizon: int, report: Report) -> int:
    """Encoder and predictor as in ``train_world_model``, from the weights that they have. Latents move: errors are measured against the copy's."""
    settings, actions = config.jepa, torch.from_numpy(data.actions)
    check = slice(spans.checked, spans.held_out)

    rows = np.arange(spans.checked, spans.held_out)
    frames = data.reader.windows(rows, np.zeros_like(rows), data.reader.steps + 1)

    def error() -> OpenLoopError:
        return open_loop_error(jepa, encode_all(jepa, frames, None if data.joints is None else data.joints[rows]), actions[check], horizon)

    best = _Best(jepa, error())
    train_step = TrainingStep(fabric, config, jepa)
    windows = Windows(data, spans.checked, settings.batch, settings.window, config.seed)
    for batch in windows.steps(0, settings.steps, fabric.device):
        jepa.train()
        stepped = train_step(batch)
        if _looks(batch.step + 1, settings.steps):
            found = error()
            best.offer(batch.step + 1, found)
            report("fine-tuning", batch.step + 1, settings.steps, {"loss": float(stepped.loss), "share of copy": found.ratio})
    return best.restore()


def _looks(done: int, steps: int) -> bool:
    return done == steps or done % max(1, steps // _CHECKS) == 0


def _keep_witness(bundle: Path, manifest: Manifest, out: Path, settings: FineTuning) -> dict[str, Any]:
    """The witness sees into the same latent space as long as the encoder does not move."""
    if not manifest.witness or settings.train_encoder:
        return {}
    shutil.copyfile(bundle / WITNESS, out / WITNESS)
    return {"witness_sha256": manifest.sha256[WITNESS]}


def _short(value: Any) -> str:
    text = json.dumps(value or {})
    return text if len(text) <= 120 else f"{text[:117]}..."


def open_loop_text(found: dict[str, Any]) -> str:
    """The report as a table for people: error at each step before and after, and that of who says that nothing changes."""
    before, after = found["open_loop"]["before"], found["open_loop"]["after"]
    counts = found["episodes"]
    trained = found["encoder"] == "trained"
    lines = [
        f"open-loop error on {counts['held_out']} held-out episodes ({before['windows']} beginnings); "
        f"{counts['trained_on']} trained on, weights of step {found['kept_step']} kept, encoder {found['encoder']}",
        "steps ahead   before    after   copying the last latent" + (" (before, after: the latents moved)" if trained else ""),
    ]
    columns = [before["model"], after["model"], *([before["copy"]] if trained else []), after["copy"]]
    lines += [" ".join([f"{step:11d}", *(f"{value:8.4f}" for value in row)]) for step, row in enumerate(zip(*columns, strict=True), 1)]
    lines += [f"{what}: {why}" for what, why in found["not_carried"].items()]
    return "\n".join(lines)
