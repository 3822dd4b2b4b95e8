"""One start and one goal: everything that makes an episode repeatable."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any

from sim.arm_world import BlockPose


@dataclass(frozen=True)
class Episode:
    """Where arm and block start, and the reachable state that the goal picture shows. Points are tool points in m in the base frame."""

    task: str
    seed: int
    tool: tuple[float, float, float]
    block: BlockPose | None
    goal_tool: tuple[float, float, float]
    goal_block: BlockPose | None

    def to_json(self) -> dict[str, Any]:
        """Plain numbers for a manifest."""
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> Episode:
        """Read back what ``to_json`` wrote.

        Raises:
            ValueError: a field is missing or is not a finite number.
        """
        try:
            poses = [None if content[key] is None else BlockPose(**{k: float(v) for k, v in content[key].items()}) for key in ("block", "goal_block")]
            tools = [tuple(float(v) for v in content[key]) for key in ("tool", "goal_tool")]
            if any(len(tool) != 3 for tool in tools):
                raise ValueError("a tool point needs three numbers")
            numbers = [*itertools.chain(*tools), *(v for pose in poses if pose is not None for v in (pose.x, pose.y, pose.yaw))]
            if not all(map(math.isfinite, numbers)):
                raise ValueError("an episode needs finite numbers")
            return Episode(
                task=str(content["task"]),
                seed=int(content["seed"]),
                tool=(tools[0][0], tools[0][1], tools[0][2]),
                block=poses[0],
                goal_tool=(tools[1][0], tools[1][1], tools[1][2]),
                goal_block=poses[1],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not an episode: {error}") from error
