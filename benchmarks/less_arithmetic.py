"""The same LeWorldModel weights run by stable-worldmodel, as one plain graph, with exact reuse and in 8 bits, in turn in one process on one thread.

``python benchmarks/less_arithmetic.py --peers SITE --json FILE``, where SITE is the site-packages of an environment with stable-worldmodel 0.1.1 and
einops (``pip install --no-deps stable-worldmodel==0.1.1 einops --target SITE`` is enough); without it, or installed here, the peer is left out, or
found. Weights are random: time is the same, and costs are compared number by number. Beside it, the predictors of bundles (``--bundles``) and a
``TransformerPredictor`` of ours with and without exact reuse. Times are those of the processor in this thread: other processes count little.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch.utils.flop_counter import FlopCounterMode

from world_model.config import read_config
from world_model.encoders.registry import EncoderConfig, build_encoder
from world_model.graphs import rollout_graph
from world_model.jepa import Jepa
from world_model.lean import LewmShape, lewm_rollout, random_lewm_weights
from world_model.lean.lewm import lewm_module, session_options
from world_model.lean.rollout import lean_rollout_graph
from world_model.lean.transformer import transformer_rollout_graph
from world_model.precision.integer import to_int8_dynamic
from world_model.predictors.registry import build_predictor
from world_model.predictors.transformer import TransformerPredictor
from world_model.protocol import Context
from world_model.runtime import OnnxModel

CONFIGS = Path(__file__).parents[1] / "world_model" / "configs"
Run = Callable[[], Any]
SHAPES = {"published (10.8 M)": LewmShape(), "small (4.4 M)": LewmShape(heads=3, mlp=768, projection=768)}


def interleaved(contenders: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of every call, the contenders in turn; one call each is not counted."""
    for run in contenders.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            began = time.process_time()
            run()
            seconds[name].append(time.process_time() - began)
    return seconds


def peers_rollout(site: Path | None, weights: dict[str, torch.Tensor], shape: LewmShape) -> Any:
    """stable-worldmodel's ``LeWM`` with these weights, or None where it is not installed.

    Its package imports torchvision, lancedb and every environment when it is imported: only the two modules that are needed are.
    """
    paths = [*([site] if site else []), *(Path(entry) for entry in sys.path)]
    root = next((path / "stable_worldmodel" for path in paths if (path / "stable_worldmodel" / "wm" / "lewm").is_dir()), None)
    if root is None:
        return None
    if site:
        sys.path.append(str(site))
    for name, folder in (("stable_worldmodel", root), ("stable_worldmodel.wm", root / "wm")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules.setdefault(name, package)
    from stable_worldmodel.wm.lewm.lewm import LeWM  # type: ignore[import-not-found, unused-ignore]
    from stable_worldmodel.wm.lewm.module import MLP, Embedder, Predictor  # type: ignore[import-not-found, unused-ignore]

    predictor = Predictor(
        num_frames=shape.frames,
        depth=shape.depth,
        heads=shape.heads,
        mlp_dim=shape.mlp,
        input_dim=shape.width,
        hidden_dim=shape.width,
        dim_head=shape.head_width,
    )
    projection = MLP(shape.width, shape.projection, shape.width, norm_fn=torch.nn.BatchNorm1d)
    model = LeWM(torch.nn.Identity(), predictor, Embedder(shape.action_dim, shape.smoothed, shape.width), None, projection).eval()
    found = model.load_state_dict(weights, strict=False)
    if found.unexpected_keys or any(not key.endswith("num_batches_tracked") for key in found.missing_keys):
        raise SystemExit(f"this stable-worldmodel has other weights than 0.1.1: {found}")
    return model


def lewm(site: Path | None, shape: LewmShape, count: int, horizon: int, rounds: int) -> dict[str, Any]:
    """Every contender on the same weights, candidates and goal."""
    weights = random_lewm_weights(shape, 0)
    rng = np.random.default_rng(0)
    context, goal = rng.standard_normal((1, shape.width), np.float32), rng.standard_normal(shape.width, np.float32)
    past, actions = np.zeros((0, shape.action_dim), np.float32), rng.standard_normal((count, horizon, shape.action_dim), np.float32)
    contenders: dict[str, Run] = {}
    peer = peers_rollout(site, weights, shape)
    if peer is not None:
        contenders["stable-worldmodel"] = lambda: _peers_costs(peer, context, actions, goal)
    for arithmetic in ("plain", "exact", "int8"):
        rollout = lewm_rollout(weights, horizon, arithmetic=arithmetic)
        contenders[arithmetic] = lambda rollout=rollout: rollout.costs(context, past, actions, goal)  # type: ignore[misc]
    values = {name: run() for name, run in contenders.items()}
    yardstick = next(iter(values))
    work = {name: _gflop(weights, horizon, name, (context, past, actions, goal)) for name in ("plain", "exact")}
    rows = {}
    seconds = interleaved(contenders, rounds)
    for name, cost in values.items():
        gap = np.abs(cost - values[yardstick])
        milliseconds = 1e3 * np.median(seconds[name])
        rows[name] = {
            "cpu_ms": round(float(milliseconds), 1),
            "least_ms": round(1e3 * min(seconds[name]), 1),
            "times_less": round(float(np.median(seconds[yardstick]) / np.median(seconds[name])), 2),
            "gflop": work.get({"stable-worldmodel": "plain", "int8": "exact"}.get(name, name)),
            "largest_difference": float(gap.max()),
            "largest_relative_difference": float((gap / np.abs(values[yardstick])).max()),
            "correlation": float(np.corrcoef(cost, values[yardstick])[0, 1]),
            "same_best_30": len(set(np.argsort(cost)[:30]) & set(np.argsort(values[yardstick])[:30])) / 30,
        }
    return {"compared_with": yardstick, "cost_mean": float(values[yardstick].mean()), "cost_std": float(values[yardstick].std()), "contenders": rows}


def _peers_costs(peer: Any, context: Any, actions: Any, goal: Any) -> Any:
    """What stable-worldmodel's solvers ask, with the latents of context and goal at hand: pictures are encoded once per plan, not per iteration."""
    count = len(actions)
    with torch.inference_mode():
        told = {
            "pixels": torch.zeros(1, count, 1, 1),
            "emb": torch.from_numpy(context)[None, None].expand(1, count, -1, -1),
            "goal": torch.zeros(1),
            "goal_emb": torch.from_numpy(goal)[None, None, None].expand(1, count, 1, -1),
        }
        return peer.get_cost(told, torch.from_numpy(actions)[None])[0].numpy()


def _gflop(weights: dict[str, torch.Tensor], horizon: int, arithmetic: str, feed: tuple[Any, ...]) -> float:
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        lewm_module(weights, horizon, arithmetic)(*(torch.from_numpy(values) for values in feed))
    return round(counter.get_total_flops() / 1e9, 1)


def transformer(rounds: int) -> dict[str, Any]:
    """Our own transformer predictor: the plain loop over steps, the exported one that works nothing out twice, and that unrolled from one context."""
    shapes = {
        "192 x 2, one token, N 64, H 8": (1, 192, 64, 8),
        "192 x 2, one token, N 300, H 5": (1, 192, 300, 5),
        "192 x 2, four tokens, N 64, H 8": (4, 192, 64, 8),
        "push-attention (96 x 2), N 64, H 8": (1, 96, 64, 8),
        "push-attention (96 x 2), N 300, H 5": (1, 96, 300, 5),
    }
    return {name: _transformer(*shape, rounds) for name, shape in shapes.items()}


def _transformer(tokens: int, width: int, count: int, horizon: int, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    predictor = TransformerPredictor(3, tokens, 48, 2, width, 2, 4, 0.0).eval()
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    encoder = build_encoder(EncoderConfig(kind="vit", tokens="global" if tokens == 1 else "pooled"), 64, 64)
    jepa = Jepa(encoder, predictor, 48)
    plain, exported, one = "step by step", "exported", "exported, fixed H, one context"
    graphs = {plain: rollout_graph(jepa), exported: lean_rollout_graph(jepa), one: transformer_rollout_graph(predictor, horizon)}
    graphs |= {f"{name}, int8_dynamic": to_int8_dynamic(graphs[name]) for name in (plain, exported)}
    rng = np.random.default_rng(0)
    latents, past = rng.standard_normal((1, 3, 48 * tokens), np.float32), rng.uniform(-1, 1, (1, 2, 2)).astype(np.float32)
    actions = rng.uniform(-1, 1, (count, horizon, 2)).astype(np.float32)
    contenders: dict[str, Run] = {}
    for name, graph in graphs.items():
        session = onnxruntime.InferenceSession(graph.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"])
        rows = 1 if name == one else count
        feed = {"latents": latents.repeat(rows, 0), "past_actions": past.repeat(rows, 0), "actions": actions}
        contenders[name] = lambda session=session, feed=feed: session.run(None, feed)[0]  # type: ignore[misc]
    with torch.inference_mode():
        expected = predictor(*(torch.from_numpy(values) for values in (latents.repeat(count, 0), past.repeat(count, 0), actions))).numpy()
    gaps = {name: float(np.abs(run() - expected).max()) for name, run in contenders.items()}
    seconds = {name: float(np.median(values)) for name, values in interleaved(contenders, rounds).items()}
    return {
        "cpu_ms": {name: round(1e3 * value, 2) for name, value in seconds.items()},
        "times_less": {name: round(seconds[plain] / value, 2) for name, value in seconds.items()},
        "largest_difference_from_torch": gaps,
    }


def predictors(files: list[Path], rounds: int) -> dict[str, Any]:
    """Parameters and CPU ms of a rollout of 64 candidates over 8 steps, the predictors of training configurations in turn, untrained."""
    rng = np.random.default_rng(0)
    contenders: dict[str, Run] = {}
    parameters = {}
    for file in files:
        model = read_config(file).model
        encoder = build_encoder(model.encoder, 64, 64)
        predictor = build_predictor(model.predictor, model.history, encoder.tokens, model.latent_dim, 2).eval()
        parameters[file.stem] = sum(parameter.numel() for parameter in predictor.parameters())
        graph = lean_rollout_graph(Jepa(encoder, predictor, model.latent_dim))
        session = onnxruntime.InferenceSession(graph.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"])
        latents = rng.standard_normal((64, model.history, encoder.tokens * model.latent_dim), np.float32)
        feed = {"latents": latents, "past_actions": np.zeros((64, model.history - 1, 2), np.float32), "actions": np.zeros((64, 8, 2), np.float32)}
        contenders[file.stem] = lambda session=session, feed=feed: session.run(None, feed)  # type: ignore[misc]
    found = interleaved(contenders, rounds)
    return {name: {"parameters": parameters[name], "cpu_ms_64x8": round(1e3 * float(np.median(values)), 3)} for name, values in found.items()}


def bundles(folders: list[Path], rounds: int) -> dict[str, Any]:
    """CPU ms of a rollout of 64 candidates over 8 steps, and of a plan on push-far along the actor as the planner node makes it, bundles in turn."""
    from planner_node.assembly import PlannerConfig
    from planner_node.controller import LatentController
    from planner_node.solvers.solver import Deadline
    from sim.tasks import make_env

    env = make_env("push-far")
    observation, _ = env.reset(seed=0)
    tool = observation["tool"].astype(np.float64)
    models = {folder.name: OnnxModel(folder) for folder in folders}
    contenders: dict[str, Run] = {}
    rng = np.random.default_rng(0)
    for name, model in models.items():
        latents = rng.standard_normal((64, model.history, model.latent_dim), np.float32)
        context = Context(latents, np.zeros((64, model.history - 1, model.action_dim), np.float32))
        actions = rng.uniform(-1, 1, (64, 8, model.action_dim)).astype(np.float32)
        contenders[f"{name}: rollout"] = lambda model=model, context=context, actions=actions: model.rollout(context, actions)  # type: ignore[misc]
        controller = LatentController(model, env.task.tool_step, PlannerConfig(mode="planner"))
        controller.start(model.encode(observation["goal"][None])[0], env.task.steps, ())
        controller.see(0.0, model.encode(observation["image"][None])[0], tool)
        contenders[f"{name}: plan"] = lambda controller=controller: controller.plan(0.0, tool, Deadline.after(10.0))  # type: ignore[misc]
    return {name: round(1e3 * float(np.median(values)), 3) for name, values in interleaved(contenders, rounds).items()}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="site-packages that hold stable-worldmodel and einops")
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--horizon", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--bundles", type=Path, nargs="*", default=[Path("models/push")], help="bundles whose predictors are compared")
    parser.add_argument("--configs", type=Path, nargs="*", default=[CONFIGS / f"push{kind}.yaml" for kind in ("", "-tiny", "-prefix", "-attention")])
    parser.add_argument("--only", choices=("lewm", "rest", "transformer"), help="a part")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {"candidates": asked.candidates, "horizon": asked.horizon, "lewm": {}}
    for name, shape in SHAPES.items() if asked.only in (None, "lewm") else ():
        found = report["lewm"][name] = lewm(asked.peers, shape, asked.candidates, asked.horizon, asked.rounds)
        print(f"LeWorldModel {name}, N {asked.candidates}, H {asked.horizon}; costs {found['cost_mean']:.0f} +- {found['cost_std']:.0f}")
        for contender, row in found["contenders"].items():
            print(
                f"  {contender:18s} {row['cpu_ms']:7.1f} ms  {row['times_less']:5.2f} x less  {row['gflop']} GFLOP  cost differs by "
                f"{row['largest_relative_difference']:.1e}  correlation {row['correlation']:.6f}  same best 30 {row['same_best_30']:.2f}"
            )
    if asked.only != "lewm":
        rest(report, asked)
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=2))


def rest(report: dict[str, Any], asked: argparse.Namespace) -> None:
    """Our own predictors."""
    report["transformer"] = transformer(asked.rounds)
    for name, found in report["transformer"].items():
        print(f"our transformer predictor, L 3, {name}: {json.dumps(found)}")
    if asked.only == "transformer":
        return
    report["predictors"] = predictors(asked.configs, 10 * asked.rounds)
    print("predictors of configurations, N 64, H 8:", json.dumps(report["predictors"]))
    report["bundles_cpu_ms"] = bundles(asked.bundles, 10 * asked.rounds)
    print("bundles, CPU ms:", json.dumps(report["bundles_cpu_ms"]))


if __name__ == "__main__":
    main()
