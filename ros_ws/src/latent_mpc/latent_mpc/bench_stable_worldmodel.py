"""stable-worldmodel's solvers and LeWM (Maes et al. 2026), imported without the rest of that package, which wants torchvision and lancedb."""

from __future__ import annotations

import importlib
import io
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np

from latent_mpc.bench_contenders import MissingPeerError, peer_version
from world_model.protocol import F32

PACKAGE, MODULE = "stable-worldmodel", "stable_worldmodel"
SOLVERS = {"CEM": ("cem", "CEMSolver"), "iCEM": ("icem", "ICEMSolver"), "MPPI": ("mppi", "MPPISolver")}
# The published LeWM for Push-T: five actions of two numbers make one step of the model.
BLOCK, LATENT, PIXELS = 5, 192, 224
_DEPTH, _HEADS, _MLP, _HISTORY, _STD = 6, 16, 2048, 3, 0.02


class Costable(Protocol):
    """What that package's solvers minimise: costs ``(B, S)`` of ``candidates (B, S, H, A)``, tensors both."""

    def get_cost(self, info: dict[str, Any], candidates: Any) -> Any:
        """The cost of each candidate."""
        ...


@contextmanager
def _bare_package() -> Iterator[None]:
    """Let its sub-modules be imported while the package itself, whose ``__init__`` imports everything, stands in for itself by its folder alone."""
    spec = find_spec(MODULE) if MODULE not in sys.modules else None
    made: list[str] = []
    if spec is not None and spec.submodule_search_locations is not None:
        for name, below in ((MODULE, ""), (f"{MODULE}.wm", "wm")):
            module = types.ModuleType(name)
            module.__path__ = [str(Path(folder) / below) for folder in spec.submodule_search_locations]
            sys.modules[name] = module
            made.append(name)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]


def part(name: str) -> Any:
    """The sub-module ``name`` of the package, such as ``solver.cem``.

    Raises:
        MissingPeerError: the package, or something that this part of it imports, is not installed.
    """
    peer_version(PACKAGE)
    try:
        with _bare_package():
            return importlib.import_module(f"{MODULE}.{name}")
    except ImportError as error:
        raise MissingPeerError(f"{PACKAGE} cannot be imported ({error}); `make bench` installs what it needs") from error


class SolverRun:
    """One of its solvers with ``samples`` candidates in each of ``iterations``, ``horizon`` steps ahead; all else as that package has it.

    ``cost`` judges candidates; an action has ``action_dim`` numbers, ``block`` of which groups make one step.
    """

    def __init__(self, name: str, cost: Costable, samples: int, iterations: int, horizon: int, action_dim: int, block: int, seed: int) -> None:
        module, kind = SOLVERS[name]
        self._seed = seed
        self._solver = getattr(part(f"solver.{module}"), kind)(cost, num_samples=samples, n_steps=iterations, topk=max(2, samples // 10), seed=seed)
        space = gymnasium.spaces.Box(-1.0, 1.0, (1, action_dim), np.float32)
        self._solver.configure(action_space=space, n_envs=1, config=types.SimpleNamespace(horizon=horizon, action_block=block))

    def plan(self, info: Mapping[str, Any]) -> F32:
        """Its answer ``(H, block * A)``; ``info`` is what the cost is told, tensors with one row each. Every plan is seeded alike."""
        self._solver.torch_gen.manual_seed(self._seed)
        with redirect_stdout(io.StringIO()):  # it prints how long it took
            found = self._solver.solve(dict(info))
        actions: F32 = found["actions"][0].numpy().astype(np.float32)
        return actions


def random_lewm(seed: int) -> Any:
    """LeWM as published for Push-T (ViT-tiny/14 at 224, predictor of six AdaLN layers, 10.8 M weights) with random weights.

    Adaptive normalisation begins at zero, which would make every action alike: it is drawn, too.
    """
    import torch
    from transformers import ViTConfig, ViTModel

    lewm, module = part("wm.lewm.lewm"), part("wm.lewm.module")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tiny = ViTConfig(hidden_size=LATENT, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, image_size=PIXELS, patch_size=14)
        projector = partial(module.MLP, LATENT, _MLP, LATENT, norm_fn=torch.nn.BatchNorm1d)
        shape = {"num_frames": _HISTORY, "depth": _DEPTH, "heads": _HEADS, "mlp_dim": _MLP}
        predictor = module.Predictor(**shape, input_dim=LATENT, hidden_dim=LATENT, output_dim=LATENT)
        embedder = module.Embedder(input_dim=2 * BLOCK, emb_dim=LATENT)
        whole = lewm.LeWM(ViTModel(tiny, add_pooling_layer=False), predictor, embedder, projector(), projector())
        for layer in predictor.transformer.layers:
            torch.nn.init.normal_(layer.adaLN_modulation[-1].weight, std=_STD)
            torch.nn.init.normal_(layer.adaLN_modulation[-1].bias, std=_STD)
    return whole.eval()


def random_info(seed: int) -> dict[str, Any]:
    """A picture and a goal picture of noise, as LeWM's costs want them."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    pixels, goal = torch.randn(2, 1, 1, 3, PIXELS, PIXELS, generator=generator)
    return {"pixels": pixels, "goal": goal, "action": torch.zeros(1, 1, 2 * BLOCK)}
