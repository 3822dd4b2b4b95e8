"""Goals in an environment: which picture is shown, and who says whether the scene came to look like it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latent_mpc.environment import PictureEnvironment, PictureEnvironmentError, Seen, action_source
from latent_mpc.named_object import NamedObjectError, named_callable

AHEAD, RESET = "ahead", "reset"
_SUCCESS_KEYS = ("success", "is_success")
_MOST_DRAWS = 50
_OTHER_SEED = 50_000
_METHODS = ("goal_state", "goal_distance")


class Judge(Protocol):
    """Success, brought by a user: ``--judge module:Class``. ``scene`` is the environment without wrappers.

    An environment may bring it itself: with ``goal_tolerance``, ``goal_state()`` and ``goal_distance(goal)``.
    """

    goal_tolerance: float

    def goal_state(self, scene: Any) -> Any:
        """What is worth remembering of a scene whose picture becomes a goal."""
        ...

    def goal_distance(self, scene: Any, goal: Any) -> float:
        """How far the scene is from what ``goal_state`` returned; at most ``goal_tolerance`` is success."""
        ...


@dataclass(frozen=True)
class Verdict:
    """Success and distance to the goal, each None where nobody defines it."""

    success: bool | None
    distance: float | None


@dataclass(frozen=True)
class Goal:
    """What is shown, ``picture (h, w, 3) uint8``, and what the judge remembers of it."""

    picture: NDArray[np.uint8]
    state: Any


class Referee:
    """Says how near the goal is: a user's judge, else the environment's own ``goal_distance``, else its ``info``, else nobody.

    ``said_by`` names which, None for nobody.

    Raises:
        NamedObjectError: the judge does not exist or is none.
    """

    def __init__(self, env: PictureEnvironment, judge: str | None) -> None:
        self._env = env
        self._judge: Judge | None = None
        self.said_by: str | None = None
        if judge is not None:
            try:
                made = named_callable(judge)()
            except TypeError as error:
                raise NamedObjectError(f"judge '{judge}' cannot be made without arguments: {error}") from error
            if not all(callable(getattr(made, method, None)) for method in _METHODS) or not hasattr(made, "goal_tolerance"):
                raise NamedObjectError(f"'{judge}' is no judge: it needs goal_tolerance, goal_state(scene) and goal_distance(scene, goal)")
            self._judge, self.said_by = made, judge
        elif hasattr(env.scene, "goal_tolerance") and all(callable(getattr(env.scene, method, None)) for method in _METHODS):
            self._judge, self.said_by = _OwnJudge(env.scene), "goal_distance of the environment"
        else:
            env.reset(0)
            info = env.step(np.zeros(env.action_dim)).info
            if any(key in info for key in _SUCCESS_KEYS):
                self.said_by = "info of the environment"

    @property
    def by_info(self) -> bool:
        """Whether success is what the environment says of its own goal, so that a goal picture must show that one."""
        return self._judge is None and self.said_by is not None

    def remember(self) -> Any:
        """What there is to remember of the scene as it is."""
        return None if self._judge is None else self._judge.goal_state(self._env.scene)

    def judge(self, seen: Seen, goal: Goal) -> Verdict:
        """How the scene is now, as it was just ``seen``."""
        if self._judge is not None:
            distance = float(self._judge.goal_distance(self._env.scene, goal.state))
            return Verdict(distance <= self._judge.goal_tolerance, distance)
        return Verdict(succeeded(seen) if self.said_by is not None else None, None)


class _OwnJudge:
    """An environment that judges itself."""

    def __init__(self, scene: Any) -> None:
        self.goal_tolerance = float(scene.goal_tolerance)

    def goal_state(self, scene: Any) -> Any:
        return scene.goal_state()

    def goal_distance(self, scene: Any, goal: Any) -> float:
        return float(scene.goal_distance(goal))


def succeeded(seen: Seen) -> bool:
    """Whether ``info`` says so."""
    return any(bool(seen.info.get(key)) for key in _SUCCESS_KEYS)


@dataclass(frozen=True)
class GoalRule:
    """Where goal pictures come from.

    ``kind`` is ``ahead`` (what a rollout of ``policy`` shows ``steps`` later from the same start) or ``reset`` (another seeded reset).
    """

    kind: str
    policy: str
    steps: int


def draw(env: PictureEnvironment, referee: Referee, rule: GoalRule, seed: int) -> tuple[Seen, Goal]:
    """The start of ``seed`` and a goal for it that is not reached already; the environment is left at the start.

    Raises:
        PictureEnvironmentError: none is found.
    """
    for attempt in range(_MOST_DRAWS):
        goal = _goal(env, referee, rule, seed, attempt)
        start = env.reset(seed)
        if goal is not None and not referee.judge(start, goal).success:
            return start, goal
    what = "shows success" if referee.by_info else "is further away than the judge's tolerance"
    raise PictureEnvironmentError(f"no goal that {what} was found for seed {seed} in {_MOST_DRAWS} draws: choose another --goal or more --goal-steps")


def _goal(env: PictureEnvironment, referee: Referee, rule: GoalRule, seed: int, attempt: int) -> Goal | None:
    if rule.kind == RESET:
        seen = env.reset(seed + _OTHER_SEED * (attempt + 1))
        return None if referee.by_info and not succeeded(seen) else Goal(seen.frame, referee.remember())
    rng = np.random.default_rng([seed, attempt])
    source = action_source(rule.policy, env, rng)
    seen = env.reset(seed)
    for _ in range(rule.steps):
        if seen.ended or (referee.by_info and succeeded(seen)):
            break
        seen = env.step(source.act(seen.observation))
    return None if referee.by_info and not succeeded(seen) else Goal(seen.frame, referee.remember())
