"""Whether fixed, preallocated buffers (IOBinding) help a graph that runs on the CPU: ``python benchmarks/bound_buffers.py [BUNDLE ...]``.

Each graph of a bundle runs with ordinary arrays and with bound buffers in turn, one thread; CPU time of a run, median.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from latent_mpc.markdown_table import markdown_table

from world_model.bundle import Manifest, read_manifest
from world_model.runtimes.graph import Feed, Graph, open_session, session_options

_ROUNDS, _RUNS, _CANDIDATES, _STEPS = 200, 5, 64, 10


def feeds(manifest: Manifest) -> dict[str, Feed]:
    """What a planner's and a perception's graphs are given."""
    rng, dim, past = np.random.default_rng(0), manifest.latent_dim, manifest.history
    latents, goal = rng.standard_normal((_CANDIDATES, dim)).astype(np.float32), rng.standard_normal(dim).astype(np.float32)
    actions = rng.uniform(-1, 1, (_CANDIDATES, _STEPS, manifest.action_dim)).astype(np.float32)
    context = rng.standard_normal((_CANDIDATES, past, dim)).astype(np.float32)
    return {
        "encoder": {"frames": rng.integers(0, 256, (1, *manifest.frame), dtype=np.uint8)},
        "rollout": {"latents": context, "past_actions": actions[:, : past - 1], "actions": actions},
        "heads": {"latents": latents, "goal": goal},
        "actor": {"latents": latents[:1], "goal": goal, "steps_left": np.array([5.0], np.float32)},
    }


def main() -> None:
    """Measure and print."""
    rows = []
    for folder in map(Path, sys.argv[1:] or ["models/push", "models/push-vit"]):
        for name, feed in feeds(read_manifest(folder)).items():
            session = open_session(folder / f"{name}.onnx", session_options(1), [("CPUExecutionProvider", {})])
            contenders = (Graph(session, name), Graph(session, name, bound="cpu"))
            plain, bound = (graph.run(feed) for graph in contenders)
            assert all(np.array_equal(one, other) for one, other in zip(plain, bound, strict=True))
            took: tuple[list[float], list[float]] = ([], [])
            for _ in range(_ROUNDS):
                for graph, times in zip(contenders, took, strict=True):
                    began = time.process_time()
                    for _ in range(_RUNS):
                        graph.run(feed)
                    times.append((time.process_time() - began) / _RUNS * 1e6)
            arrays, buffers = (float(np.median(times)) for times in took)
            rows.append([folder.name, name, f"{arrays:.0f}", f"{buffers:.0f}", f"{buffers / arrays:.2f}"])
    print(markdown_table(("bundle", "graph", "arrays, us", "bound, us", "ratio"), rows))


if __name__ == "__main__":
    main()
