"""Reading the options of a guardrail: known keys, finite numbers, one line when something is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arm_model.near_names import did_you_mean


class GuardrailError(ValueError):
    """Guardrails that cannot be built, with the reason in one line."""


@dataclass(frozen=True)
class Options:
    """What YAML says under the ``name`` of a guardrail."""

    name: str
    content: dict[str, object]

    @staticmethod
    def of(name: str, content: object, known: Iterable[str]) -> Options:
        """The mapping under ``name``; nothing counts as an empty one.

        Raises:
            GuardrailError: it is no mapping, or has a key that is not ``known``.
        """
        found = {} if content is None else content
        if not isinstance(found, dict):
            raise GuardrailError(f"{name}: give its options as a mapping, not {found}")
        require_known(found, known, f"{name}: unknown option", "options")
        return Options(name, {str(key): value for key, value in found.items()})

    def number(self, key: str, default: float | None, least: float = 0.0, most: float = np.inf, above: bool = False) -> float:
        """A number between ``least`` (or ``above`` it) and ``most``.

        Raises:
            GuardrailError: it is missing and has no default, or is something else.
        """
        value = self.content.get(key, default)
        if value is None:
            raise GuardrailError(f"{self.name}: needs {key}")
        if not isinstance(value, int | float) or isinstance(value, bool) or not np.isfinite(value):
            raise GuardrailError(f"{self.name}: {key} must be a finite number, not {value}")
        if value < least or value > most or (above and value == least):
            bound = f"more than {least:g}" if above else f"at least {least:g}"
            raise GuardrailError(f"{self.name}: {key} is {value}, must be {bound}" + (f" and at most {most:g}" if most < np.inf else ""))
        return float(value)

    def per_joint(self, key: str, joints: tuple[str, ...], default: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positive numbers ``(J,)``: ``default``, tightened where the mapping under ``key`` names a joint.

        Raises:
            GuardrailError: a joint is unknown, or its number is not positive or above the default.
        """
        values = default.copy()
        given = self.content.get(key, {})
        if not isinstance(given, dict):
            raise GuardrailError(f"{self.name}: {key} must map joints to numbers, not {given}")
        require_known(given, joints, f"{self.name}: unknown joint", "joints")
        for joint, value in given.items():
            index = joints.index(joint)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= default[index]:
                raise GuardrailError(f"{self.name}: {joint} is {value}, must be a number above 0 and at most {default[index]:g}")
            values[index] = value
        return values


def require_known(given: Iterable[object], known: Iterable[str], what: str, kind: str) -> None:
    """Refuse the first of ``given`` that is not ``known``, and name the nearest one that is.

    Raises:
        GuardrailError: there is one.
    """
    names = list(known)
    for key in given:
        if key not in names:
            hint = " ".join(filter(None, (did_you_mean(key, names), f"known {kind}: {', '.join(names) or 'none'}")))
            raise GuardrailError(f"{what} '{key}'; {hint}")
