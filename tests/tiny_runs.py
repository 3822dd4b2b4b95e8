"""Small real runs that several test files look at, made once for each test session: data, a trained model, its bundle."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from latent_mpc.collect import Collection, collect

from arm_model import load_arm
from world_model.config import TrainConfig, parse_config
from world_model.export import export_bundle
from world_model.training import train

SETTINGS = {
    "name": "tiny",
    "tasks": ["reach"],
    "threads": 1,
    "held_out": 2,
    "model": {"latent_dim": 8, "predictor": {"width": 32, "depth": 1}},
    "jepa": {"steps": 60, "batch": 4, "window": 5, "warmup": 5, "objective": {"directions": 64}},
    "distance": {"steps": 150, "batch": 64, "width": 32, "embedding_dim": 8},
    "actor": {"steps": 60, "batch": 64, "width": 32, "depth": 1, "least_steps": 1, "most_steps": 12},
}


def tiny_config(**changes: object) -> TrainConfig:
    """The tiny configuration; a mapping changes keys inside a section."""
    content = {key: value | changes.get(key, {}) if isinstance(value, dict) else changes.get(key, value) for key, value in SETTINGS.items()}
    return parse_config(content | {key: value for key, value in changes.items() if key not in content}, "tiny")


def silent(stage: str, done: int, of: int, numbers: dict[str, float]) -> None:
    """Reports go nowhere."""


@cache
def tiny_data(session: Path) -> Path:
    """Twelve exploring reaches of twelve steps."""
    folder = session / "tiny-data"
    collect(Collection("reach", shards=2, seed=0, out=folder, episodes=6, steps=12), 1, lambda done, of: None)
    return folder


@cache
def tiny_run(session: Path) -> Path:
    """A training run that ended."""
    folder = session / "tiny-run"
    train(tiny_config(), [tiny_data(session)], folder, silent)
    return folder


@cache
def tiny_bundle(session: Path) -> Path:
    """Its bundle."""
    folder = session / "tiny-bundle"
    export_bundle(tiny_run(session), folder, load_arm().joints)
    return folder
