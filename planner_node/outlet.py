"""Where what a proposer decides goes: a node's publishers, or an offline replay's notes."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from planner_node.episode import Code
from planner_node.guardrails.zones_in_force import ZoneSet
from planner_node.plan import Plan
from world_model.surprise import Reading

Vector = NDArray[np.float64]
Values = dict[str, str | int | float | bool]


class Outlet(Protocol):
    """Each is called at once, in the order in which things are decided: a plan leaves before anybody is told of it."""

    def plan(self, stamp_ns: int, times: Vector, positions: Vector, velocities: Vector) -> None:
        """A proposal: ``times (P,) s`` after ``stamp_ns``, ``positions (P, J) rad``, ``velocities (P, J) rad/s``."""
        ...

    def imagined(self, plan: Plan, stamp_ns: int) -> None:
        """The search's choice, made from the frame at ``stamp_ns``."""
        ...

    def fenced(self, zones: ZoneSet) -> None:
        """What is kept out of from now on."""
        ...

    def surprise(self, reading: Reading) -> None:
        """The score of a frame."""
        ...

    def result(self, code: Code, values: Values) -> None:
        """What has become of a goal."""
        ...

    def status(self) -> None:
        """Something changed that a status tells."""
        ...

    def say(self, what: str, text: str, grave: bool = False) -> None:
        """A word for people; those about the same ``what`` may come with every frame."""
        ...
