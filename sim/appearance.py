"""How a scene looks, apart from what is in it: where the camera really stands, light, colours, and a block that does not matter.

Nothing here touches the physics: the same actions move the same block whatever the scene looks like.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.camera import LIGHT, Camera, Light

RGB = tuple[float, float, float]

FACTORS = ("camera", "light", "colours", "distractor")
"""What may look different from one episode to the next."""

_WHITE: RGB = (1.0, 1.0, 1.0)
_DISTRACTOR_HALF_M = (0.02, 0.045)
# On the table, beside the block's area and in view.
_DISTRACTOR_BESIDE_M = (0.25, 0.36)


@dataclass(frozen=True)
class Distractor:
    """A block on the table beside the workspace: centre in m, yaw in rad, half width in m. It is seen, never touched."""

    x: float
    y: float
    yaw: float
    half_m: float
    rgb: RGB


@dataclass(frozen=True)
class Appearance:
    """``camera_shift_m`` and ``camera_turn_rad`` (a rotation vector, in the base frame) move the camera from where it should be."""

    camera_shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    camera_turn_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    light: Light = LIGHT
    block_rgb: RGB = (0.9, 0.1, 0.1)
    table_rgb: RGB = (0.65, 0.6, 0.5)
    arm_tint: RGB = _WHITE
    distractor: Distractor | None = None

    def seen_by(self, camera: Camera) -> Camera:
        """Where ``camera`` really stands."""
        return camera.moved(self.camera_shift_m, self.camera_turn_rad)


NOMINAL = Appearance()


def draw_appearance(rng: np.random.Generator, factors: tuple[str, ...] = FACTORS, least: float = 0.0, most: float = 1.0) -> Appearance:
    """A scene that looks different in ``factors``, by a strength between ``least`` and ``most``.

    Strength 1 is a camera moved by 3 cm and turned by 3 degrees about any axis, light from 60 degrees off and up to half as bright or half as bright
    again, and block, table and arm in other colours.

    Raises:
        ValueError: there is no such factor.
    """
    unknown = set(factors) - set(FACTORS)
    if unknown:
        raise ValueError(f"unknown factor '{sorted(unknown)[0]}' of appearance; choose among {', '.join(FACTORS)}")
    # Every factor draws, asked for or not, so that two sets of factors agree in those that they share.
    drawn: dict[str, dict[str, Any]] = {
        "camera": _camera(rng, rng.uniform(least, most)),
        "light": _light(rng, rng.uniform(least, most)),
        "colours": _colours(rng, rng.uniform(least, most)),
        "distractor": {"distractor": _distractor(rng)},
    }
    changes = {name: value for factor in factors for name, value in drawn[factor].items()}
    return replace(NOMINAL, **changes)


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    vector = rng.standard_normal(3)
    unit: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit


def _camera(rng: np.random.Generator, strength: float) -> dict[str, Any]:
    shift, turn = 0.03 * strength * _direction(rng), np.radians(3.0) * strength * _direction(rng)
    return {"camera_shift_m": tuple(shift.tolist()), "camera_turn_rad": tuple(turn.tolist())}


def _light(rng: np.random.Generator, strength: float) -> dict[str, Any]:
    tilt, heading = np.radians(60.0) * strength, rng.uniform(0.0, 2 * np.pi)
    direction = (float(np.sin(tilt) * np.cos(heading)), float(np.sin(tilt) * np.sin(heading)), float(np.cos(tilt)))
    brightness = 1.0 + 0.5 * strength * rng.uniform(-1.0, 1.0)
    colour = 1.0 + 0.2 * strength * rng.uniform(-1.0, 1.0, 3)
    scale = {name: float(np.clip(getattr(LIGHT, name) * brightness, 0.0, 1.0)) for name in ("ambient", "diffuse")}
    return {"light": Light(direction, tuple(colour.tolist()), specular=LIGHT.specular, **scale)}


def _colours(rng: np.random.Generator, strength: float) -> dict[str, Any]:
    hue = (strength * rng.uniform(-0.17, 0.17)) % 1.0
    saturation = 1.0 - 0.4 * strength * rng.random()
    value = 0.9 - 0.3 * strength * rng.random()
    table = np.array(NOMINAL.table_rgb) + 0.2 * strength * rng.uniform(-1.0, 1.0, 3)
    tint = 1.0 + 0.25 * strength * rng.uniform(-1.0, 1.0, 3)
    return {"block_rgb": colorsys.hsv_to_rgb(hue, saturation, value), "table_rgb": tuple(table.tolist()), "arm_tint": tuple(tint.tolist())}


def _distractor(rng: np.random.Generator) -> Distractor:
    side, along = rng.choice([-1.0, 1.0]), rng.uniform(-1.0, 1.0)
    beside = rng.uniform(*_DISTRACTOR_BESIDE_M) - 0.1
    at_the_end = bool(rng.random() < 0.5)
    x, y = (0.54 + side * beside, 0.2 * along) if at_the_end else (0.54 + 0.16 * along, side * (beside + 0.06))
    rgb = colorsys.hsv_to_rgb(float(rng.random()), float(rng.uniform(0.3, 1.0)), float(rng.uniform(0.3, 1.0)))
    return Distractor(float(x), float(y), float(rng.uniform(0, np.pi)), float(rng.uniform(*_DISTRACTOR_HALF_M)), rgb)
