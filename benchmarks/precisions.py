"""CPU time of each graph of a bundle in each of its precisions, interleaved in one process, one thread.

    python benchmarks/precisions.py runs/precision/push [...]

N = 300 candidates, H = 5 steps and 3 zones for what scores plans, one frame for the encoder, 24 rows for the actor. Times are medians of
``time.process_time``; the ratio is fp32 over the precision, more than 1 is faster.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from world_model.bundle import Manifest, read_manifest
from world_model.precision.running import opened

ROUNDS = 40
CANDIDATES, HORIZON, ZONES, ROWS = 300, 5, 3, 24


def feed(graph: str, manifest: Manifest, rng: np.random.Generator) -> dict[str, Any]:
    """Inputs of the usual size for a graph."""
    kind, _, shape = graph.partition(".")
    sizes = [int(size) for size in shape.split("x")] if shape else [CANDIDATES, HORIZON, ZONES]
    count, horizon, zones = [*sizes, ZONES][:3]
    dim, history, action_dim = manifest.latent_dim, manifest.history, manifest.action_dim

    def normal(*size: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal(size).astype(np.float32)

    if kind in ("encoder", "witness"):
        inputs: dict[str, Any] = {"frames": rng.integers(0, 256, (1, *manifest.frame), dtype=np.uint8)}
        return inputs | ({"joints": normal(1, manifest.proprioception)} if manifest.proprioception else {})
    if kind == "heads":
        return {"latents": normal(count, dim), "goal": normal(dim)}
    if kind == "actor":
        return {"latents": normal(ROWS, dim), "goal": normal(dim), "steps_left": np.full(ROWS, 9, np.float32)}
    rows = count if kind == "rollout" else 1
    inputs = {
        "latents": normal(rows, history, dim),
        "past_actions": normal(rows, history - 1, action_dim),
        "actions": normal(count, horizon, action_dim),
    }
    if kind == "rollout":
        return inputs
    lower, upper = (np.array(manifest.tool_step[key], np.float32) for key in ("lower", "upper"))
    boxes = np.concatenate([rng.uniform(lower[:2], upper[:2], (zones, 2)), rng.uniform(0.01, 0.05, (zones, 4))], axis=1).astype(np.float32)
    return inputs | {"goal": normal(dim), "steps_left": np.array(9, np.float32), "tool": (lower + upper) / 2, "zones": boxes}


def measure(folder: Path) -> list[tuple[str, dict[str, float]]]:
    """Milliseconds of CPU time by precision, for each graph."""
    manifest = read_manifest(folder)
    rng = np.random.default_rng(0)
    rows = []
    for graph in manifest.graphs:
        files = {"fp32": manifest.graph(graph)} | {name: manifest.graph(graph, name) for name, held in manifest.precisions.items() if graph in held}
        sessions = {name: opened(folder / file) for name, file in files.items()}
        inputs = feed(graph, manifest, rng)
        spent: dict[str, list[float]] = {name: [] for name in sessions}
        for turn in range(ROUNDS + 3):
            for name, session in sessions.items():
                begun = time.process_time()
                session.run(None, inputs)
                if turn >= 3:
                    spent[name].append(1e3 * (time.process_time() - begun))
        rows.append((graph, {name: float(np.median(times)) for name, times in spent.items()}))
    return rows


def main() -> None:
    """Print a table for each bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+", type=Path)
    for folder in parser.parse_args().bundles:
        rows = measure(folder)
        names = list(dict.fromkeys(name for _, times in rows for name in times))
        print(f"\n{folder.name}, ms of CPU time (times fp32)\n")
        print(f"| graph | {' | '.join(names)} |\n|{'---|' * (1 + len(names))}")
        for graph, times in rows:
            cells = [f"{times[n]:.2f} ({times['fp32'] / times[n]:.2f})" if n in times else "" for n in names]
            print(f"| {graph} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
