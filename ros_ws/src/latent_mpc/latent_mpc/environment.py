"""Any Gymnasium environment with pictures and a box of actions, as the world model sees it."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import Any, Protocol

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from latent_mpc.named_object import import_named, named_callable

RANDOM = "random"
_WALK_KEPT, _WALK_NEW = 0.8, 0.6


class PictureEnvironmentError(ValueError):
    """An environment that cannot be used, with the reason in one line."""


@dataclass(frozen=True)
class EnvironmentConfig:
    """Which environment: its Gymnasium ``id`` (``module:id`` imports ``module`` first), its keyword ``arguments``, and where its pictures come from.

    Pictures are resized to ``size`` x ``size``. ``camera`` is a key of its dictionary of observations; without one, the observation itself or its
    only picture is taken, or else what it renders.
    """

    id: str
    size: int = 64
    camera: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size < 8:
            raise PictureEnvironmentError(f"size is {self.size}, must be at least 8 pixels")


@dataclass(frozen=True)
class Seen:
    """What one step brings: ``frame (h, w, 3) uint8``, the raw ``observation``, ``info``, and whether the episode has ended."""

    frame: NDArray[np.uint8]
    observation: Any
    info: dict[str, Any]
    ended: bool


class PictureEnvironment:
    """One environment, opened; its own time limit is off: an episode is as long as whoever plays it says, unless the environment ends it.

    Raises:
        PictureEnvironmentError: it cannot be made, gives no RGB pictures, or has no bounded box of actions.
    """

    def __init__(self, config: EnvironmentConfig) -> None:
        self.config = config
        self.env = _make(config)
        space = self.env.action_space
        if not isinstance(space, spaces.Box):
            raise PictureEnvironmentError(f"{config.id} has actions of kind {type(space).__name__}; a Box is needed")
        if not space.is_bounded():
            raise PictureEnvironmentError(f"{config.id} has actions without bounds; wrap it in gymnasium.wrappers.RescaleAction or ClipAction")
        self._space = space
        self.low, self.high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
        self.action_dim = len(self.low)
        self._source = _source(config, self.env)

    @property
    def scene(self) -> Any:
        """The environment without any wrapper: what a judge may look into."""
        return self.env.unwrapped

    def reset(self, seed: int) -> Seen:
        """Begin the episode of ``seed``."""
        observation, info = self.env.reset(seed=seed)
        return Seen(self._frame(observation), observation, dict(info), False)

    def step(self, action: NDArray[np.floating]) -> Seen:
        """Take ``action (A,)`` in [-1, 1]."""
        observation, _, terminated, truncated, info = self.env.step(self.native(action))
        return Seen(self._frame(observation), observation, dict(info), bool(terminated or truncated))

    def native(self, action: NDArray[np.floating]) -> NDArray[Any]:
        """``action (A,)`` in [-1, 1] in the environment's own units and shape."""
        share = (np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0) + 1.0) / 2.0
        native: NDArray[Any] = (self.low + share * (self.high - self.low)).reshape(self._space.shape).astype(self._space.dtype)
        return native

    def normalised(self, native: Any) -> NDArray[np.float32]:
        """The environment's own ``native`` action as ``(A,)`` in [-1, 1]; what lies outside its bounds is clipped.

        Raises:
            PictureEnvironmentError: it has another size or is not finite.
        """
        values = np.asarray(native, dtype=np.float64).reshape(-1)
        if values.shape != self.low.shape or not np.isfinite(values).all():
            raise PictureEnvironmentError(f"{self.config.id} takes {self.action_dim} finite numbers as an action, not {native!r}")
        width = np.where(self.high > self.low, self.high - self.low, 1.0)
        action: NDArray[np.float32] = np.clip(2.0 * (values - self.low) / width - 1.0, -1.0, 1.0).astype(np.float32)
        return action

    def describe(self) -> dict[str, Any]:
        """What ``dataset.json`` says of it."""
        return {
            "task": self.config.id,
            "env": self.config.id,
            "env_arguments": self.config.arguments,
            "camera": self.config.camera,
            "action_space": {"low": self.low.tolist(), "high": self.high.tolist(), "dim": self.action_dim},
            "frame": [self.config.size, self.config.size, 3],
        }

    def close(self) -> None:
        """Close it."""
        self.env.close()

    def _frame(self, observation: Any) -> NDArray[np.uint8]:
        picture = self.env.render() if self._source is None else observation[self._source] if self._source else observation
        frame = np.asarray(picture)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise PictureEnvironmentError(f"{self.config.id} gives pictures {frame.shape} {frame.dtype}; (h, w, 3) uint8 is needed")
        size = (self.config.size, self.config.size)
        return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if frame.shape[:2] != size else frame.copy(), dtype=np.uint8)


class ActionSource(Protocol):
    """What acts in an environment while data are collected."""

    def act(self, observation: Any) -> NDArray[np.float32]:
        """The next action ``(A,)`` in [-1, 1]."""
        ...


class RandomWalkActions:
    """Random actions that keep their direction for a while (an Ornstein-Uhlenbeck process): independent ones would tremble on the spot."""

    def __init__(self, action_dim: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self._action = rng.uniform(-1.0, 1.0, action_dim)

    def act(self, observation: Any) -> NDArray[np.float32]:
        """The next action, whatever was observed."""
        self._action = np.clip(_WALK_KEPT * self._action + _WALK_NEW * self._rng.standard_normal(self._action.shape), -1.0, 1.0)
        return self._action.astype(np.float32)


class UserActions:
    """A user's ``policy(observation, rng) -> action`` in the environment's own units."""

    def __init__(self, policy: Any, env: PictureEnvironment, rng: np.random.Generator) -> None:
        self._policy, self._env, self._rng = policy, env, rng

    def act(self, observation: Any) -> NDArray[np.float32]:
        """What the user's policy says."""
        return self._env.normalised(self._policy(observation, self._rng))


def action_source(name: str, env: PictureEnvironment, rng: np.random.Generator) -> ActionSource:
    """``random``, or the policy that ``module:callable`` names.

    Raises:
        NamedObjectError: there is no such callable.
    """
    return RandomWalkActions(env.action_dim, rng) if name == RANDOM else UserActions(named_callable(name), env, rng)


def _make(config: EnvironmentConfig) -> gymnasium.Env[Any, Any]:
    # Environments that draw with pygame or MuJoCo would look for a screen.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
    module, colon, _ = config.id.partition(":")
    if colon:
        import_named(module)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Gymnasium's own, of environments that do not render
            try:
                return _made(config, {"render_mode": "rgb_array"})
            except TypeError as error:
                if "render_mode" not in str(error):
                    raise
                return _made(config, {})
    except Exception as error:  # a user's environment may fail in any way
        raise PictureEnvironmentError(f"environment '{config.id}' cannot be made: {type(error).__name__}: {error}") from error


def _made(config: EnvironmentConfig, rendering: dict[str, str]) -> gymnasium.Env[Any, Any]:
    return gymnasium.make(config.id, max_episode_steps=-1, disable_env_checker=True, **{**rendering, **config.arguments})


def _source(config: EnvironmentConfig, env: gymnasium.Env[Any, Any]) -> str | None:
    """The key of the observation that holds the picture, "" for the observation itself, or None for what is rendered."""
    space = env.observation_space
    keys = [key for key, part in space.spaces.items() if _is_picture(part)] if isinstance(space, spaces.Dict) else []
    if config.camera is not None:
        if config.camera not in keys:
            raise PictureEnvironmentError(
                f"{config.id} has no picture '{config.camera}' in its observations; pictures are: {', '.join(keys) or 'none'}"
            )
        return config.camera
    if _is_picture(space):
        return ""
    if len(keys) > 1:
        raise PictureEnvironmentError(f"{config.id} observes several pictures; choose one with --camera: {', '.join(keys)}")
    if keys:
        return keys[0]
    if env.render_mode == "rgb_array":
        return None
    raise PictureEnvironmentError(f"{config.id} neither observes an RGB picture (h, w, 3) uint8 nor renders one (render_mode rgb_array)")


def _is_picture(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3 and space.shape[2] == 3
