"""What stands around an arm and must not be touched: fixed obstacles in its base frame, from YAML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import yaml

Triple: TypeAlias = tuple[float, float, float]
_SHAPES = ("box", "sphere", "capsule", "half_space")
_KEYS = {"name", *_SHAPES, "xyz", "rpy", "allowed"}


class SceneError(ValueError):
    """A scene that cannot be understood, with the reason in one line."""


@dataclass(frozen=True)
class Box:
    """A box with edges of ``size`` m, about its centre."""

    size: Triple


@dataclass(frozen=True)
class Sphere:
    """A ball of ``radius`` m."""

    radius: float


@dataclass(frozen=True)
class Capsule:
    """A cylinder of ``length`` m along its z axis, closed by two half balls of ``radius`` m."""

    radius: float
    length: float


@dataclass(frozen=True)
class HalfSpace:
    """Everything with ``normal . x <= offset`` m is solid; ``normal`` has length 1 and points to where the arm may be. A floor: (0, 0, 1), 0."""

    normal: Triple
    offset: float


Shape: TypeAlias = Box | Sphere | Capsule | HalfSpace


@dataclass(frozen=True)
class Obstacle:
    """A shape at ``xyz`` m, turned by ``rpy`` rad as in a URDF. The links in ``allowed`` may touch it: a pushing tool its table, for example."""

    name: str
    shape: Shape
    xyz: Triple = (0.0, 0.0, 0.0)
    rpy: Triple = (0.0, 0.0, 0.0)
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """Fixed obstacles in the arm's base frame; no two have the same name."""

    obstacles: tuple[Obstacle, ...] = ()


EMPTY = Scene()


def read_scene(path_or_text: str | Path) -> Scene:
    """A scene from a YAML file or from YAML text (one line that ends in .yaml or .yml is a file).

    It is a list of ``{name, xyz, rpy, allowed: [links]}`` with one of ``box: [sx, sy, sz]``, ``box: {min, max}``, ``sphere: r``, ``capsule: [r, l]``,
    ``half_space: {normal, offset}``.

    Raises:
        SceneError: the file is missing, or an obstacle is malformed.
    """
    text = str(path_or_text)
    if isinstance(path_or_text, Path) or ("\n" not in text and text.endswith((".yaml", ".yml"))):
        try:
            text = Path(path_or_text).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise SceneError(f"cannot read scene {path_or_text}: {error}") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SceneError(f"the scene is not YAML: {' '.join(str(error).split())}") from error
    return parse_scene(content)


def parse_scene(content: object) -> Scene:
    """A scene from what YAML holds; see ``read_scene``.

    Raises:
        SceneError: an obstacle is malformed.
    """
    entries = [] if content is None else content
    if not isinstance(entries, list):
        raise SceneError("a scene is a list of obstacles: {name, box | sphere | capsule | half_space, xyz, rpy}")
    obstacles = tuple(_obstacle(entry) for entry in entries)
    names = [obstacle.name for obstacle in obstacles]
    for name in names:
        if names.count(name) > 1:
            raise SceneError(f"two obstacles are called '{name}'")
    return Scene(obstacles)


def _obstacle(entry: object) -> Obstacle:
    if not isinstance(entry, dict):
        raise SceneError(f"an obstacle is {{name, box | sphere | capsule | half_space, xyz, rpy}}, not {entry}")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise SceneError(f"obstacle {entry} has no name")
    unknown = sorted(str(key) for key in entry.keys() - _KEYS)
    if unknown:
        raise SceneError(f"obstacle '{name}': unknown key {', '.join(unknown)}; known are {', '.join(sorted(_KEYS))}")
    kinds = [kind for kind in _SHAPES if kind in entry]
    if len(kinds) != 1:
        raise SceneError(f"obstacle '{name}' needs exactly one of {', '.join(_SHAPES)}")
    kind = kinds[0]
    placed = {"xyz", "rpy"} & entry.keys()
    if placed and (kind == "half_space" or isinstance(entry[kind], dict)):
        raise SceneError(f"obstacle '{name}': its {kind} already says where it is; leave out {', '.join(sorted(placed))}")
    allowed = entry.get("allowed", [])
    if not isinstance(allowed, list) or not all(isinstance(link, str) for link in allowed):
        raise SceneError(f"obstacle '{name}': allowed must be a list of link names")
    shape: Shape
    xyz = _triple(name, "xyz", entry.get("xyz", (0.0, 0.0, 0.0)))
    if kind == "box" and isinstance(entry[kind], dict):
        shape, xyz = _corners(name, entry[kind])
    else:
        shape = _shape(name, kind, entry[kind])
    return Obstacle(name, shape, xyz, _triple(name, "rpy", entry.get("rpy", (0.0, 0.0, 0.0))), tuple(allowed))


def _shape(name: str, kind: str, value: object) -> Shape:
    if kind == "box":
        size = _triple(name, kind, value)
        if min(size) <= 0:
            raise SceneError(f"obstacle '{name}': the edges of a box must be positive, not {list(size)}")
        return Box(size)
    if kind == "sphere":
        (radius,) = _numbers(name, kind, [value], 1)
        if radius <= 0:
            raise SceneError(f"obstacle '{name}': the radius must be positive, not {radius}")
        return Sphere(radius)
    if kind == "capsule":
        radius, length = _numbers(name, kind, value, 2)
        if radius <= 0 or length < 0:
            raise SceneError(f"obstacle '{name}': a capsule is [radius, length], positive, not {value}")
        return Capsule(radius, length)
    if not isinstance(value, dict) or value.keys() != {"normal", "offset"}:
        raise SceneError(f"obstacle '{name}': a half space is {{normal: [x, y, z], offset: m}}, not {value}")
    normal = np.array(_triple(name, "normal", value["normal"]))
    (offset,) = _numbers(name, "offset", [value["offset"]], 1)
    length = float(np.linalg.norm(normal))
    if not 1e-9 < length < np.inf:
        raise SceneError(f"obstacle '{name}': the normal has no direction")
    x, y, z = (normal / length).tolist()
    return HalfSpace((x, y, z), offset / length)


def _corners(name: str, value: dict[object, object]) -> tuple[Box, Triple]:
    if value.keys() != {"min", "max"}:
        raise SceneError(f"obstacle '{name}': a box is [sx, sy, sz] or {{min: [x, y, z], max: [x, y, z]}}, not {value}")
    low, high = (np.array(_triple(name, key, value[key])) for key in ("min", "max"))
    if np.any(low >= high):
        axis = "xyz"[int(np.argmax(low >= high))]
        raise SceneError(f"obstacle '{name}' has min >= max in {axis}: min {low.tolist()}, max {high.tolist()}")
    (a, b, c), (x, y, z) = (high - low).tolist(), ((low + high) / 2).tolist()
    return Box((a, b, c)), (x, y, z)


def _triple(name: str, key: str, value: object) -> Triple:
    x, y, z = _numbers(name, key, value, 3)
    return x, y, z


def _numbers(name: str, key: str, value: object, count: int) -> list[float]:
    if not isinstance(value, list | tuple) or len(value) != count or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        raise SceneError(f"obstacle '{name}': {key} needs {count} number{'s' if count > 1 else ''}, not {value}")
    if not np.all(np.isfinite(value)):
        raise SceneError(f"obstacle '{name}': {key} holds a number that is not finite: {list(value)}")
    return [float(v) for v in value]
