"""The same episodes with a bundle in fp32 and in another precision: what a conversion costs where it counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latent_mpc.evaluate import Evaluation, evaluate
from latent_mpc.intervals import sign_test
from world_model.bundle import bundle_sha256, read_manifest

_OUTCOMES = Path("runs/parity")


class ClosedLoop:
    """Plays ``episodes`` of ``task``, the bundle's first one where it is None, with the default planner.

    Deadlines are counted in CPU time, so that a busy machine changes nothing. Outcomes lie in ``outcomes``, and an interrupted run goes on; a bundle
    that was played by this object already is not played again.

    Raises:
        ValueError: there is nothing to play.
    """

    def __init__(
        self,
        task: str | None,
        episodes: int,
        seed: int,
        workers: int,
        report: Callable[[int, int], None] = lambda done, of: None,
        outcomes: Path = _OUTCOMES,
    ) -> None:
        if min(episodes, workers) < 1:
            raise ValueError(f"at least one episode and one worker are needed, not {episodes} and {workers}")
        self._task, self._episodes, self._seed, self._workers = task, episodes, seed, workers
        self._report = report
        self._outcomes = outcomes
        self._known: dict[str, tuple[list[bool], float]] = {}

    def __call__(self, fp32: Path, other: Path) -> dict[str, Any]:
        """Play both bundles: success rates in percent, what changed episode by episode with the ``p`` of its sign test, and what was played."""
        task = self._task or read_manifest(fp32).tasks[0]
        (right, right_m), (found, found_m) = self._played(fp32, task), self._played(other, task)
        better = sum(b and not a for a, b in zip(right, found, strict=True))
        worse = sum(a and not b for a, b in zip(right, found, strict=True))
        return {
            "task": task,
            "episodes": len(found),
            "seed": self._seed,
            "success_percent": 100.0 * sum(found) / len(found),
            "fp32_success_percent": 100.0 * sum(right) / len(right),
            "better": better,
            "worse": worse,
            "p": sign_test(better, worse),
            "median_distance_m": found_m,
            "fp32_median_distance_m": right_m,
        }

    def _played(self, bundle: Path, task: str) -> tuple[list[bool], float]:
        """Success of every episode, and the median of the final distances in m."""
        sha256 = bundle_sha256(read_manifest(bundle))
        if sha256 not in self._known:
            asked = Evaluation(bundle, task, self._episodes, (self._seed,), ("planner",), workers=self._workers, cpu_time=True)
            file = self._outcomes / f"{task}-{self._seed}-{sha256[:12]}.jsonl"
            result = evaluate(asked, file, self._report)
            successes = [bool(json.loads(line)["success"]) for line in file.read_text().splitlines()]
            self._known[sha256] = (successes, float(result["final_distance_m"]["median"]))
        return self._known[sha256]
