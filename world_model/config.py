"""Training configuration: frozen dataclasses, read from YAML and checked on load."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from world_model.encoders.registry import EncoderConfig

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration file with a wrong key or value, with the reason in one line."""


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise ConfigError(rule)


def _at_least(least: int, **values: float) -> None:
    for name, value in values.items():
        _require(value >= least, f"{name} is {value}, must be at least {least}")


def _positive(**values: float) -> None:
    for name, value in values.items():
        _require(0 < value < math.inf, f"{name} is {value}, must be positive and finite")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the model: ``latent_dim`` D, ``history`` L latents, predictor ``width`` and ``depth``."""

    latent_dim: int = 48
    history: int = 3
    width: int = 256
    depth: int = 3
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def __post_init__(self) -> None:
        _at_least(1, latent_dim=self.latent_dim, history=self.history, width=self.width, depth=self.depth)


@dataclass(frozen=True)
class JepaConfig:
    """End-to-end training: ``steps`` of ``batch`` windows of ``window`` frames; ``sigreg_weight`` is LeWorldModel's lambda."""

    steps: int = 6000
    batch: int = 32
    window: int = 6
    learning_rate: float = 6e-4
    weight_decay: float = 1e-3
    sigreg_weight: float = 0.1
    sigreg_directions: int = 512
    warmup: int = 100
    clip: float = 1.0

    def __post_init__(self) -> None:
        _at_least(1, steps=self.steps, batch=self.batch, sigreg_directions=self.sigreg_directions, warmup=self.warmup)
        _at_least(0, weight_decay=self.weight_decay, sigreg_weight=self.sigreg_weight)
        _positive(learning_rate=self.learning_rate, clip=self.clip)


@dataclass(frozen=True)
class DistanceConfig:
    """The temporal-distance head."""

    steps: int = 4000
    batch: int = 512
    width: int = 128
    embedding_dim: int = 16
    expectile: float = 0.3
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        _at_least(1, steps=self.steps, batch=self.batch, width=self.width, embedding_dim=self.embedding_dim)
        _positive(learning_rate=self.learning_rate)
        _require(0 < self.expectile < 1, f"expectile is {self.expectile}, must lie between 0 and 1")


@dataclass(frozen=True)
class ActorConfig:
    """The goal-conditioned actor; ``least_steps``..``most_steps`` is the range of steps left that it learns and is asked for."""

    steps: int = 8000
    batch: int = 1024
    width: int = 256
    depth: int = 2
    components: int = 5
    least_steps: int = 3
    most_steps: int = 30
    dropout: float = 0.1
    noise: float = 0.02
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        _at_least(1, steps=self.steps, batch=self.batch, width=self.width, depth=self.depth, components=self.components, least_steps=self.least_steps)
        _at_least(0, noise=self.noise, weight_decay=self.weight_decay)
        _positive(learning_rate=self.learning_rate)
        _require(self.least_steps <= self.most_steps, f"least_steps is {self.least_steps}, more than most_steps {self.most_steps}")
        _require(0 <= self.dropout < 1, f"dropout is {self.dropout}, must lie in [0, 1)")


@dataclass(frozen=True)
class TrainConfig:
    """All of a training run. ``held_out`` episodes, the last of the data, are kept for validation."""

    name: str
    tasks: tuple[str, ...]
    seed: int = 0
    threads: int = 2
    held_out: int = 60
    model: ModelConfig = field(default_factory=ModelConfig)
    jepa: JepaConfig = field(default_factory=JepaConfig)
    distance: DistanceConfig = field(default_factory=DistanceConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)

    def __post_init__(self) -> None:
        _require(len(self.tasks) > 0, "tasks is empty, must name what the model is for")
        _at_least(0, seed=self.seed)
        _at_least(1, threads=self.threads, held_out=self.held_out)
        rule = f"jepa.window is {self.jepa.window}, must be more than model.history, {self.model.history}"
        _require(self.jepa.window > self.model.history, rule)


_NESTED: dict[str, type] = {"model": ModelConfig, "encoder": EncoderConfig, "jepa": JepaConfig, "distance": DistanceConfig, "actor": ActorConfig}


def _build(kind: type[T], content: Any, where: str) -> T:
    assert is_dataclass(kind)
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected a mapping, found {content!r}")
    known = {f.name: f for f in fields(kind)}
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise ConfigError(f"{where}: unknown key '{key}'; did you mean '{near[0]}'?")
        if key in _NESTED:
            values[key] = _build(_NESTED[key], value, f"{where}.{key}")
        elif known[key].type == "tuple[str, ...]":
            if not isinstance(value, list | tuple):
                raise ConfigError(f"{where}.{key}: {value!r} is not a list")
            values[key] = tuple(str(item) for item in value)
        else:
            values[key] = _scalar(value, str(known[key].type), f"{where}.{key}")
    try:
        return kind(**values)
    except (TypeError, ConfigError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _scalar(value: Any, kind: str, where: str) -> Any:
    try:
        if kind == "float":
            return float(value)
        if kind == "int":
            if isinstance(value, bool) or int(value) != value:
                raise ValueError
            return int(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{where}: {value!r} is not of type {kind}") from None
    if kind in ("str", "bool") and type(value).__name__ != kind:
        raise ConfigError(f"{where}: {value!r} is not of type {kind}")
    return value


def read_config(file: str | Path) -> TrainConfig:
    """Read a training configuration.

    Raises:
        ConfigError: the file cannot be read, a key is unknown (the message names the nearest one), or a value has the wrong type.
    """
    path = Path(file)
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    return parse_config(content, path.name)


def parse_config(content: Any, where: str) -> TrainConfig:
    """A configuration from plain data, such as that in a manifest; ``where`` names it in errors.

    Raises:
        ConfigError: a key is unknown or a value has the wrong type.
    """
    return _build(TrainConfig, content, where)
