"""What was commanded when: the paths that were sent, one after another, each in force from its beginning to that of the next."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from planner_node.joint_path import JointPath

_KEPT = 8
_DIFFERENCE_S = 0.01


class Commanded:
    """The last few paths with the ROS times in ns at which they begin.

    A plan begins in the future, so that the one before it is still in force now.
    """

    def __init__(self, joints: NDArray[np.float64], tool: NDArray[np.float64], begins_ns: int) -> None:
        rest = JointPath(np.zeros(1), joints[None].copy(), np.zeros((1, len(joints))), tool[None].copy())
        self._paths: deque[tuple[int, JointPath]] = deque([(begins_ns, rest)], maxlen=_KEPT)

    def follow(self, path: JointPath, begins_ns: int) -> None:
        """From ``begins_ns`` on, ``path`` is in force."""
        while len(self._paths) > 1 and self._paths[-1][0] >= begins_ns:
            self._paths.pop()
        self._paths.append((begins_ns, path))

    def tool_at(self, ns: int) -> NDArray[np.float64]:
        """Commanded tool point ``(3,) m`` at ``ns``."""
        begins, path = self._at(ns)
        return path.tool_at((ns - begins) * 1e-9)

    def velocity_at(self, ns: int) -> NDArray[np.float64]:
        """Commanded tool velocity ``(3,) m/s`` at ``ns``."""
        begins, path = self._at(ns)
        seconds = (ns - begins) * 1e-9
        return (path.tool_at(seconds + _DIFFERENCE_S) - path.tool_at(seconds - _DIFFERENCE_S)) / (2 * _DIFFERENCE_S)

    def joints_at(self, ns: int) -> NDArray[np.float64]:
        """Commanded joints ``(J,) rad`` at ``ns``."""
        begins, path = self._at(ns)
        return path.joints_at((ns - begins) * 1e-9)

    def _at(self, ns: int) -> tuple[int, JointPath]:
        for begins, path in reversed(self._paths):
            if begins <= ns:
                return begins, path
        return self._paths[0]
