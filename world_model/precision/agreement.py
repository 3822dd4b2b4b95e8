"""What a planner would notice: whether the same candidate wins, and what it costs where another one does."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from world_model.precision.inputs import Inputs
from world_model.protocol import F32, Context, PlanningModel

_CEILING = 6.0


@dataclass(frozen=True)
class Agreement:
    """Of two models that choose among the same ``candidates`` in the same ``scenes``.

    ``same``: the share of scenes with the same winner. ``lost`` (mean) and ``lost_most``: by how much the other's winner is worse in the eyes of the
    first, in units of cost, that is steps; ``spread``: the mean standard deviation of that cost over a scene's candidates, to compare with.
    """

    scenes: int
    candidates: int
    same: float
    lost: float
    lost_most: float
    spread: float

    def as_json(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)


def agreement(reference: PlanningModel, other: PlanningModel, inputs: Inputs, candidates: int, rng: np.random.Generator) -> Agreement:
    """Let both judge the same pictures and candidates, from the encoder on.

    Half of a scene's candidates are what was done in other scenes, half are uniform noise held for two steps; all are as long as ``inputs.actions``.
    """
    lost, same, spread = [], 0, []
    for scene in range(inputs.count):
        actions = _candidates(inputs, candidates, rng)
        right, found = (_costs(model, inputs, scene, actions) for model in (reference, other))
        best, chosen = int(right.argmin()), int(np.where(np.isfinite(found), found, np.inf).argmin())
        same += best == chosen
        lost.append(float(right[chosen] - right[best]))
        spread.append(float(right.std()))
    return Agreement(inputs.count, candidates, same / inputs.count, float(np.mean(lost)), float(np.max(lost)), float(np.mean(spread)))


def _candidates(inputs: Inputs, count: int, rng: np.random.Generator) -> F32:
    """Action sequences ``(N, H, A)``."""
    done = inputs.actions[rng.integers(0, inputs.count, count // 2)]
    _, horizon, dim = inputs.actions.shape
    noise = rng.uniform(-1.0, 1.0, (count - len(done), -(-horizon // 2), dim)).astype(np.float32)
    return np.concatenate([done, noise.repeat(2, axis=1)[:, :horizon]])


def _costs(model: PlanningModel, inputs: Inputs, scene: int, actions: F32) -> NDArray[np.float64]:
    """Temporal distance at the end and the actor's negative log-likelihood of the first action, the planner's default, ``(N,)``."""
    joints = inputs.joints[scene] if inputs.joints.shape[-1] else None
    latents = model.encode(inputs.frames[scene], joints)
    goal = model.encode(inputs.goals[scene : scene + 1])[0]
    context = Context(latents[None], inputs.past_actions[scene : scene + 1]).repeated(len(actions))
    imagined = model.rollout(context, actions)
    mixture = model.propose(latents[-1:], goal, inputs.steps_left[scene : scene + 1]).repeated(len(actions))
    prior = np.minimum(mixture.negative_log_likelihood(actions[:, 0]), _CEILING)
    cost: NDArray[np.float64] = np.asarray(model.distance(np.ascontiguousarray(imagined[:, -1]), goal) + prior, dtype=np.float64)
    return cost
