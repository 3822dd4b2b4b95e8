"""What was seen and commanded so far, as the predictor wants to hear it."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from planner_node.action import ActionMeaning
from world_model.protocol import F32, Context


class History:
    """Latents and commanded tool points with their times; gives the predictor's context at the newest one.

    The model's steps are ``meaning.period_s`` apart; frames may come more often. Before the first frame the arm is taken to have stood still.
    """

    def __init__(self, length: int, meaning: ActionMeaning, keep_s: float = 2.0) -> None:
        self._length = length
        self._meaning = meaning
        self._keep_s = max(keep_s, length * meaning.period_s)
        self._seen: deque[tuple[float, F32, NDArray[np.float64]]] = deque()

    def clear(self) -> None:
        """Forget everything: a new episode, a clock jump, a reset simulator."""
        self._seen.clear()

    def add(self, stamp_s: float, latent: F32, tool: NDArray[np.float64]) -> None:
        """Remember ``latent (D,)`` and the commanded ``tool (3,) m`` at ``stamp_s``.

        Raises:
            ValueError: the stamp is not newer than the last one, or the latent is not finite.
        """
        if self._seen and stamp_s <= self._seen[-1][0]:
            raise ValueError(f"frame at {stamp_s:.3f} s is not newer than the last one at {self._seen[-1][0]:.3f} s")
        if not np.all(np.isfinite(latent)):
            raise ValueError("latent is not finite")
        self._seen.append((stamp_s, latent, tool.copy()))
        while self._seen[0][0] < stamp_s - self._keep_s:
            self._seen.popleft()

    def __len__(self) -> int:
        return len(self._seen)

    def context(self) -> Context:
        """One row: L latents a period apart, oldest first, ending with the newest, and the actions that the commanded tool made between them."""
        stamps = np.array([stamp for stamp, _, _ in self._seen])
        ages = np.arange(self._length - 1, -1, -1) * self._meaning.period_s
        index = [int(np.abs(stamps - (stamps[-1] - age)).argmin()) for age in ages]
        latents = np.stack([self._seen[i][1] for i in index])
        tools = np.stack([self._seen[i][2] for i in index])
        actions = self._meaning.between(tools[:-1], tools[1:])
        return Context(latents[None].astype(np.float32), actions[None])
