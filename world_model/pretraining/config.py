"""Configuration of a pre-training: frozen dataclasses, read from YAML and checked on load like those of training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from world_model.config import ConfigError, build_config, read_yaml


def _numbers(least: float, **values: float) -> None:
    for name, value in values.items():
        if not least <= value < math.inf:
            raise ConfigError(f"{name} is {value}, must be finite and at least {least:g}")


@dataclass(frozen=True)
class ArchitectureConfig:
    """The DINOv2 architecture: pictures of ``size`` px in patches of ``patch`` px, ``depth`` layers of ``width`` with ``heads``."""

    size: int = 64
    patch: int = 8
    width: int = 128
    depth: int = 4
    heads: int = 4

    def __post_init__(self) -> None:
        _numbers(1, size=self.size, patch=self.patch, width=self.width, depth=self.depth, heads=self.heads)
        if self.size % self.patch or self.width % self.heads:
            raise ConfigError(f"size {self.size} must be a multiple of patch {self.patch}, and width {self.width} of heads {self.heads}")


@dataclass(frozen=True)
class ViewsConfig:
    """Crops of a picture. Areas are shares of the picture, ``aspect`` the largest ratio of the sides; there are two global crops of the full size.

    Mild, because the camera is fixed: where something is in the picture is what features must tell, and what two crops of other places do not share.
    No crop is mirrored: left and right differ for an arm. ``brightness``, ``contrast``, ``saturation`` are the largest relative changes.
    """

    global_least: float = 0.95
    locals: int = 4
    local_size: int = 32
    local_least: float = 0.4
    local_most: float = 0.8
    aspect: float = 1.05
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __post_init__(self) -> None:
        _numbers(0, locals=self.locals, brightness=self.brightness, contrast=self.contrast, saturation=self.saturation)
        _numbers(1, local_size=self.local_size, aspect=self.aspect)
        if not (0 < self.global_least <= 1 and 0 < self.local_least <= self.local_most <= 1):
            raise ConfigError("crops must have areas in (0, 1], local_least no more than local_most")
        if max(self.brightness, self.contrast, self.saturation) >= 1:
            raise ConfigError("brightness, contrast and saturation must be less than 1")


@dataclass(frozen=True)
class DistillationConfig:
    """Heads with ``prototypes``, temperatures, teacher. ``centring`` is ``centre`` (DINO) or ``sinkhorn`` (DINOv2).

    More prototypes than global crops in a batch cannot be shared out evenly: Sinkhorn would make every output nearly uniform.
    The teacher's temperature rises from ``teacher_start`` to ``teacher_temperature`` over ``teacher_warmup`` steps. With ``patch_weight`` above 0 the
    student also names the teacher's prototypes of the ``masked`` share of patches that it does not see (iBOT, as in DINOv2).
    """

    prototypes: int = 64
    hidden: int = 256
    bottleneck: int = 64
    student_temperature: float = 0.1
    teacher_start: float = 0.04
    teacher_temperature: float = 0.04
    teacher_warmup: int = 300
    centring: str = "sinkhorn"
    centre_momentum: float = 0.9
    momentum: float = 0.98
    patch_weight: float = 1.0
    masked: float = 0.3
    freeze_last_layer: int = 50

    def __post_init__(self) -> None:
        _numbers(1, hidden=self.hidden, bottleneck=self.bottleneck, teacher_warmup=self.teacher_warmup)
        _numbers(2, prototypes=self.prototypes)
        _numbers(0, patch_weight=self.patch_weight, freeze_last_layer=self.freeze_last_layer)
        _numbers(1e-3, student_temperature=self.student_temperature, teacher_start=self.teacher_start, teacher_temperature=self.teacher_temperature)
        if self.centring not in ("centre", "sinkhorn"):
            raise ConfigError(f"centring is '{self.centring}'; choose centre or sinkhorn")
        for name in ("centre_momentum", "momentum", "masked"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, must lie in [0, 1)")


@dataclass(frozen=True)
class PretrainConfig:
    """All of a pre-training: ``steps`` of ``batch`` pictures; the last ``held_out`` episodes only judge the features."""

    name: str
    seed: int = 0
    threads: int = 1
    held_out: int = 60
    steps: int = 1200
    batch: int = 32
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.04
    last_weight_decay: float = 0.2
    clip: float = 3.0
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)

    def __post_init__(self) -> None:
        _numbers(1, threads=self.threads, held_out=self.held_out, steps=self.steps, warmup=self.warmup)
        _numbers(2, batch=self.batch)
        _numbers(0, seed=self.seed, weight_decay=self.weight_decay, last_weight_decay=self.last_weight_decay)
        _numbers(1e-9, learning_rate=self.learning_rate, clip=self.clip)
        if self.views.local_size % self.architecture.patch:
            raise ConfigError(f"views.local_size {self.views.local_size} must be a multiple of architecture.patch {self.architecture.patch}")


def read_pretrain_config(file: str | Path) -> PretrainConfig:
    """Read the configuration of a pre-training.

    Raises:
        ConfigError: the file cannot be read, a key is unknown (the message names the nearest one), or a value has the wrong type.
    """
    return build_config(PretrainConfig, read_yaml(file), Path(file).name)
