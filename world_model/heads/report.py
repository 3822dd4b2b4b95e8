"""How a fit tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

# (stage, steps done, steps in all, numbers by name)
Report = Callable[[str, int, int, dict[str, float]], None]
