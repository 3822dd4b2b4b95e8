"""Training configuration: frozen dataclasses, read from YAML and checked on load."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

import yaml

from world_model.encoders.registry import EncoderConfig
from world_model.objectives.registry import ObjectiveConfig
from world_model.predictors.registry import PredictorConfig

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration file with a wrong key or value, with the reason in one line."""


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise ConfigError(rule)


def _at_least(least: int, **values: float) -> None:
    for name, value in values.items():
        _require(value >= least, f"{name} is {value}, must be at least {least}")


def _one_of(choices: tuple[str, ...], **values: str) -> None:
    for name, value in values.items():
        _require(value in choices, f"{name} is '{value}', must be one of {', '.join(choices)}")


def _positive(**values: float) -> None:
    for name, value in values.items():
        _require(0 < value < math.inf, f"{name} is {value}, must be positive and finite")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the model: ``latent_dim`` d numbers for each of the encoder's K tokens, ``history`` L latents, a predictor and an encoder.

    With ``proprioception`` joint positions enter beside the picture.
    """

    latent_dim: int = 48
    history: int = 3
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    proprioception: bool = False

    def __post_init__(self) -> None:
        _at_least(1, latent_dim=self.latent_dim, history=self.history)


@dataclass(frozen=True)
class AugmentationConfig:
    """How far the pictures of training stray from those of the data; all zero, the default, is not at all.

    For each frame by itself: ``brightness``, ``contrast``, ``saturation`` and ``gain`` (of each channel) change by up to this share, ``hue`` turns
    by up to this share of a half turn, ``gamma`` bends the curve to ``x + g x (1 - x)``, ``noise`` is a standard deviation (1 is white), and with
    probability ``cutout`` a rectangle of one colour, its sides up to ``cutout_size`` of the picture's, covers a part. For each window: ``shift``, in
    pixels, of the camera.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gain: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0
    cutout: float = 0.0
    cutout_size: float = 0.3
    shift: int = 0

    def __post_init__(self) -> None:
        _at_least(0, shift=self.shift)
        for item in fields(self):
            value = getattr(self, item.name)
            _require(item.name == "shift" or 0 <= value <= 1, f"{item.name} is {value}, must lie between 0 and 1")

    @property
    def photometric(self) -> bool:
        """Whether colours change."""
        return any((self.brightness, self.contrast, self.saturation, self.hue, self.gain, self.gamma, self.noise))

    @property
    def enabled(self) -> bool:
        """Whether anything changes."""
        return self.photometric or self.cutout > 0 or self.shift > 0


@dataclass(frozen=True)
class ComputeConfig:
    """Where it is trained: Lightning Fabric's ``accelerator``, ``devices`` and ``nodes``; ``torchrun`` sets the last two itself.

    ``precision``: ``auto`` is ``bf16-mixed`` on a GPU and ``32-true`` elsewhere.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: str = "auto"

    def __post_init__(self) -> None:
        _at_least(1, devices=self.devices, nodes=self.nodes)
        _one_of(accelerator=self.accelerator, choices=("auto", "cpu", "cuda", "mps"))
        _one_of(precision=self.precision, choices=("auto", "32-true", "bf16-mixed"))


@dataclass(frozen=True)
class JepaConfig:
    """End-to-end training: ``steps`` of ``batch`` windows, those of all processes together, of ``window`` frames.

    ``average``: decay of the exponential moving average of the weights that is kept as the result; 0, the default, keeps the last weights.
    """

    steps: int = 6000
    batch: int = 32
    window: int = 6
    learning_rate: float = 6e-4
    weight_decay: float = 1e-3
    warmup: int = 100
    clip: float = 1.0
    average: float = 0.0
    checkpoint_every: int = 250
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        _at_least(1, steps=self.steps, batch=self.batch, warmup=self.warmup, checkpoint_every=self.checkpoint_every)
        _at_least(0, weight_decay=self.weight_decay)
        _positive(learning_rate=self.learning_rate, clip=self.clip)
        _require(0 <= self.average < 1, f"average is {self.average}, must lie in [0, 1)")


@dataclass(frozen=True)
class InvarianceConfig:
    """The encoder learns to see the same in other looks: ``steps`` of ``batch`` pairs of pictures of one moment."""

    steps: int = 3000
    batch: int = 192
    learning_rate: float = 6e-4
    weight_decay: float = 1e-3
    warmup: int = 100
    clip: float = 1.0
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        _at_least(1, steps=self.steps, batch=self.batch, warmup=self.warmup)
        _at_least(0, weight_decay=self.weight_decay)
        _positive(learning_rate=self.learning_rate, clip=self.clip)


@dataclass(frozen=True)
class DistanceConfig:
    """The temporal-distance head.

    ``kind``: ``expectile`` (regression with this ``expectile``), ``qrl`` (the widest quasi-metric whose single steps cost at most 1, up to
    ``slack``) or ``contrastive`` (successor distances, pairs ``discount`` apart); see :mod:`world_model.heads.distance`.
    """

    kind: str = "expectile"
    steps: int = 4000
    batch: int = 512
    width: int = 128
    embedding_dim: int = 16
    expectile: float = 0.3
    slack: float = 0.25
    discount: float = 0.95
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        _one_of(("expectile", "qrl", "contrastive"), kind=self.kind)
        _at_least(1, steps=self.steps, batch=self.batch, width=self.width, embedding_dim=self.embedding_dim)
        _positive(learning_rate=self.learning_rate, slack=self.slack)
        _require(0 < self.expectile < 1, f"expectile is {self.expectile}, must lie between 0 and 1")
        _require(0 < self.discount < 1, f"discount is {self.discount}, must lie between 0 and 1")
        rule = f"embedding_dim is {self.embedding_dim}, must be a multiple of 4: a quasi-metric has 4 components"
        _require(self.kind == "expectile" or self.embedding_dim % 4 == 0, rule)


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
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    jepa: JepaConfig = field(default_factory=JepaConfig)
    invariance: InvarianceConfig = field(default_factory=InvarianceConfig)
    distance: DistanceConfig = field(default_factory=DistanceConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)

    def __post_init__(self) -> None:
        _require(len(self.tasks) > 0, "tasks is empty, must name what the model is for")
        _at_least(0, seed=self.seed)
        _at_least(1, threads=self.threads, held_out=self.held_out)
        rule = f"jepa.window is {self.jepa.window}, must be more than model.history, {self.model.history}"
        _require(self.jepa.window > self.model.history, rule)
        asked, shown = self.model.predictor.horizon, self.jepa.window - self.model.history
        rule = f"model.predictor.horizon is {asked}, but windows of {self.jepa.window} frames show {shown} steps after the history; lower it or"
        _require(self.model.predictor.kind != "action_prefix" or asked <= shown, f"{rule} set jepa.window to {asked + self.model.history}")


def _nearest(key: str, types: dict[str, Any]) -> str:
    """The known key that is most like ``key``, or the one of that very name a section further down: a key may have moved there."""
    for section, kind in types.items():
        if is_dataclass(kind) and key in {f.name for f in fields(kind)}:
            return f"{section}.{key}"
    return difflib.get_close_matches(key, list(types), n=1, cutoff=0.0)[0]


def build_config(kind: type[T], content: Any, where: str) -> T:
    """A frozen dataclass from plain data; fields that are dataclasses themselves are built from mappings. ``where`` names the data in errors.

    Raises:
        ConfigError: a key is unknown (the message names the nearest one) or a value has the wrong type.
    """
    assert is_dataclass(kind)
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected a mapping, found {content!r}")
    known = {f.name: f for f in fields(kind)}
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key not in known:
            raise ConfigError(f"{where}: unknown key '{key}'; did you mean '{_nearest(str(key), types)}'?")
        if is_dataclass(types[key]):
            values[key] = build_config(cast("type[Any]", types[key]), value, f"{where}.{key}")
        elif known[key].type == "tuple[str, ...]":
            if not isinstance(value, list | tuple):
                raise ConfigError(f"{where}.{key}: {value!r} is not a list")
            values[key] = tuple(str(item) for item in value)
        else:
            values[key] = _scalar(value, str(known[key].type), f"{where}.{key}")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _scalar(value: Any, kind: str, where: str) -> Any:
    if kind.endswith(" | None"):
        return None if value is None else _scalar(value, kind.removesuffix(" | None"), where)
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
    return parse_config(read_yaml(file), Path(file).name)


def read_yaml(file: str | Path) -> Any:
    """The plain data in a YAML file.

    Raises:
        ConfigError: the file cannot be read.
    """
    path = Path(file)
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error


def parse_config(content: Any, where: str) -> TrainConfig:
    """A configuration from plain data, such as that in a manifest; ``where`` names it in errors.

    Raises:
        ConfigError: a key is unknown or a value has the wrong type.
    """
    return build_config(TrainConfig, content, where)
