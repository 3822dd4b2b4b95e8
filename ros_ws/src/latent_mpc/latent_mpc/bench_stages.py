"""The stages of the bench: all that happens between a camera's frame and a command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import cv2
import numpy as np

from arm_model import Kinematics, load_arm
from latent_mpc.bench_guard import guard_cycle
from latent_mpc.bench_guardrails import guardrail_stages
from latent_mpc.bench_model import CountedModel
from latent_mpc.bench_timing import Stage
from latent_mpc.flops import count_file
from latent_mpc.policies import PUBLISHED as PUBLISHED_POLICIES
from planner_node.assembly import PlannerConfig
from planner_node.controller import LatentController
from planner_node.guardrails.zone import Zone
from planner_node.shield import Motion, Shield, ShieldConfig
from planner_node.solvers.solver import Deadline
from sim.arm_world import stock_arm
from sim.tasks import PicturedGoalEnv
from world_model.framing import frame, middle
from world_model.protocol import Context, PlanningModel
from world_model.runtime import OnnxModel

_CYCLE_S = 0.01
_CANDIDATES, _STEPS = 64, 8
_WIDE, _HIGH = 640, 480
BARE_RESIZE = "bare uint8 resize of the same part"
# Each plan by the mode of its solver and what differs from its settings.
PLANS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("plan: along the actor", "planner", {}),
    ("plan: actor alone", "actor", {}),
    ("plan: CEM 150 x 5", "cem", {}),
    ("plan: iCEM", "icem", {}),
    ("plan: MPPI", "mppi", {}),
    ("plan: predictive sampling", "predictive_sampling", {}),
)
PUBLISHED = PUBLISHED_POLICIES["cem_300x30"]


def stages_of(model: OnnxModel, env: PicturedGoalEnv, seed: int) -> list[Stage]:
    """Rendering, preprocessing, every network, whole plans and the guardrail, on a first frame of ``env``.

    Operations of networks and plans are counted where onnx is installed; without it they have no limit.
    """
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    camera, large = env.task.camera, env.task.camera.resized(224, 224)
    tool = observation["tool"].astype(np.float64)
    still = np.zeros(model.action_dim, np.float32)
    arm = load_arm()
    kinematics = Kinematics(arm)
    return [
        Stage("render 64 px, simple shapes", lambda: camera.render(env.world.client)),
        Stage("render 224 px, simple shapes", lambda: large.render(env.world.client)),
        Stage("render 64 px, visual meshes", _rendered(env)),
        Stage("environment step with picture", lambda: env.step(still)),
        Stage("inverse kinematics", lambda: kinematics.solve(tool, arm.home)),
        *_pictures(model, rng),
        *_networks(model, env, seed, rng),
        *_plans(model, env, seed),
        *_guard(tool),
        *(Stage(name, work) for name, work in guardrail_stages(env.task.tool_step)),
    ]


def controlled(model: PlanningModel, env: PicturedGoalEnv, seed: int, config: PlannerConfig, zones: Sequence[Zone] = ()) -> Callable[[], object]:
    """Plans, one after another, from the first frame of episode ``seed`` of ``env``; each goes on from the one before it, as in the node."""
    observation, _ = env.reset(seed=seed)
    tool = observation["tool"].astype(np.float64)
    controller = LatentController(model, env.task.tool_step, config)
    controller.start(model.encode(observation["goal"][None])[0], env.task.steps, zones)
    controller.see(0.0, model.encode(observation["image"][None])[0], tool)
    return lambda: controller.plan(0.0, tool, Deadline.counted(None))


def first_context(model: OnnxModel, env: PicturedGoalEnv, seed: int) -> tuple[Context, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """An arm that has stood still in front of the first frame of episode ``seed``, as a context of one row, and the goal's latent ``(D,)``."""
    observation, _ = env.reset(seed=seed)
    latent = model.encode(observation["image"][None])[0]
    context = Context(np.repeat(latent[None, None], model.history, 1), np.zeros((1, model.history - 1, model.action_dim), np.float32))
    return context, model.encode(observation["goal"][None])[0]


def _rendered(env: PicturedGoalEnv) -> Callable[[], object]:
    meshes = stock_arm()
    return lambda: env.task.camera.render(meshes)


def _pictures(model: OnnxModel, rng: np.random.Generator) -> list[Stage]:
    height, width, _ = model.manifest.frame
    picture = rng.integers(0, 256, (_HIGH, _WIDE, 3), dtype=np.uint8)
    crop = middle(_WIDE, _HIGH, width / height)
    whole = picture[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width].copy()
    return [
        Stage(BARE_RESIZE, lambda: cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), repeats=20),
        Stage(f"preprocess: crop and scale {_WIDE} x {_HIGH}", lambda: frame(picture, crop, width, height), limit=BARE_RESIZE, repeats=20),
    ]


def _networks(model: OnnxModel, env: PicturedGoalEnv, seed: int, rng: np.random.Generator) -> list[Stage]:
    context, goal = first_context(model, env, seed)
    observation, _ = env.reset(seed=seed)
    image = observation["image"][None]
    actions = rng.uniform(-1, 1, (_CANDIDATES, _STEPS, model.action_dim)).astype(np.float32)
    many, latents = context.repeated(_CANDIDATES), np.repeat(context.latents[:, -1], _CANDIDATES, 0)
    stages = [
        Stage("encode one frame", lambda: model.encode(image), _flop(model, "encoder", N=1)),
        Stage(
            f"rollout, {_CANDIDATES} candidates x {_STEPS} steps",
            lambda: model.rollout(many, actions),
            _flop(model, "rollout", N=_CANDIDATES, H=_STEPS),
        ),
        Stage("temporal distance, 64 latents", lambda: model.distance(latents, goal), _flop(model, "heads", N=_CANDIDATES)),
        Stage("actor, 64 latents", lambda: model.propose(latents, goal, np.full(_CANDIDATES, 8.0)), _flop(model, "actor", N=_CANDIDATES)),
    ]
    if model.manifest.witness:
        stages.insert(1, Stage("witness, one frame", lambda: model.witness(image), _flop(model, "witness", N=1)))
    return stages


def _plans(model: OnnxModel, env: PicturedGoalEnv, seed: int) -> list[Stage]:
    observation, _ = env.reset(seed=seed)
    tool = observation["tool"]
    beside = Zone((float(tool[0]) + 0.1, float(tool[1])), (0.02, 0.07))
    asked = [(name, PlannerConfig(mode=mode, solvers={mode: settings} if settings else {}), ()) for name, mode, settings in PLANS]
    walled = ("plan: along the actor, with a wall", PlannerConfig(), (beside,))
    return [
        Stage(name, controlled(model, env, seed, config, zones), plan_flop(model, env, seed, config, zones))
        for name, config, zones in (asked[0], walled, *asked[1:])
    ]


def plan_flop(model: OnnxModel, env: PicturedGoalEnv, seed: int, config: PlannerConfig, zones: Sequence[Zone] = ()) -> float:
    """What the graphs compute in one plan; 0 where onnx, which reads them, is missing."""
    if find_spec("onnx") is None:
        return 0.0
    counted = CountedModel(model)
    plan = controlled(counted, env, seed, config, zones)
    counted.flop = 0
    plan()
    return float(counted.flop)


def _guard(tool: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[Stage]:
    arm = load_arm()
    q = Kinematics(arm).solve(tool)
    shield = Shield(ShieldConfig(arm.limits.scaled(0.5, 0.5, 0.5, margin=0.02), _CYCLE_S))
    rest, target = shield.hold(q), Motion(q + 0.05, np.zeros_like(q), np.zeros_like(q))
    return [
        Stage("shield, one cycle", lambda: shield.follow(rest, 1, target)),
        Stage("shield and collision check, one cycle", guard_cycle(arm)),
    ]


def _flop(model: OnnxModel, graph: str, **sizes: int) -> float:
    return float(count_file(model.directory / f"{graph}.onnx", sizes).total) if find_spec("onnx") else 0.0
