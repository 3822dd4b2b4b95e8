"""Joint limits of an arm, read from its URDF."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray


class LimitsError(ValueError):
    """A URDF lacks a limit that the guardrail needs, or names it wrongly."""


@dataclass(frozen=True)
class JointLimits:
    """Limits of J joints, in the order of ``names``.

    Every array is ``(J,) float64``: ``lower`` and ``upper`` in rad, ``velocity`` in rad/s, ``acceleration`` in rad/s^2, ``jerk`` in rad/s^3.
    """

    names: tuple[str, ...]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    velocity: NDArray[np.float64]
    acceleration: NDArray[np.float64]
    jerk: NDArray[np.float64]

    def scaled(self, velocity: float = 1.0, acceleration: float = 1.0, jerk: float = 1.0, margin: float = 0.0) -> JointLimits:
        """Tighter limits for a planner or a guardrail that wants room to spare; ``margin`` in rad is taken off both position ends."""
        for name, value in (("velocity", velocity), ("acceleration", acceleration), ("jerk", jerk)):
            if not 0.0 < value <= 1.0:
                raise LimitsError(f"{name} scale is {value}, must lie in (0, 1]")
        if not 0.0 <= margin < float(np.min(self.upper - self.lower)) / 2:
            raise LimitsError(f"position margin is {margin} rad, must be at least 0 and leave room between the limits")
        return replace(
            self,
            lower=self.lower + margin,
            upper=self.upper - margin,
            velocity=self.velocity * velocity,
            acceleration=self.acceleration * acceleration,
            jerk=self.jerk * jerk,
        )


_KINDS = ("lower", "upper", "velocity", "acceleration", "jerk")


def read_limits(urdf: Path, joints: tuple[str, ...], stated: object = None, file: Path | None = None) -> JointLimits:
    """Read position, velocity, acceleration and jerk limits of ``joints`` from the ``<limit>`` tags of ``urdf`` and from ``stated``.

    ``acceleration`` and ``jerk`` are attributes since URDF 1.2; without them nothing can promise a stop inside the limits. ``stated`` is the mapping
    under ``limits`` of an arm's description in ``file``, a list of J numbers or one number for each kind of limit: it adds what the URDF lacks
    and tightens what it has.

    Raises:
        LimitsError: a joint or one of its limits is missing, not finite, or empty, or ``stated`` would widen one.
    """
    try:
        root = ElementTree.parse(urdf).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise LimitsError(f"cannot read URDF {urdf}: {error}") from error
    own = _stated(stated, len(joints), file)
    tags = {joint.get("name"): joint for joint in root.findall("joint")}
    arrays = {kind: np.full(len(joints), np.nan) for kind in _KINDS}
    for index, name in enumerate(joints):
        tag = tags.get(name)
        limit = None if tag is None else tag.find("limit")
        if tag is None or (limit is None and set(own) != set(_KINDS)):
            raise LimitsError(f"{urdf}: joint '{name}' has no <limit>" + (f"; add it, or all limits to {file}" if tag is not None and file else ""))
        attributes = {} if limit is None else limit.attrib
        for kind in _KINDS:
            arrays[kind][index] = _limit(kind, name, attributes.get(kind), own[kind][index] if kind in own else None, urdf, file)
    for index, name in enumerate(joints):
        if arrays["lower"][index] >= arrays["upper"][index]:
            raise LimitsError(f"{urdf}: joint '{name}' has lower >= upper")
        for kind in _KINDS[2:]:
            if arrays[kind][index] <= 0:
                raise LimitsError(f"{urdf}: joint '{name}' has a {kind} limit that is not positive")
    return JointLimits(names=joints, **arrays)


def narrowed(limits: JointLimits, soft: object) -> JointLimits:
    """Position limits inside ``limits``: ``soft`` is ``{margin: rad}`` or ``{lower: [J], upper: [J]}``, or None for the same.

    Raises:
        LimitsError: ``soft`` is malformed, or wider.
    """
    if soft is None:
        return limits
    if isinstance(soft, dict) and soft.keys() == {"margin"} and isinstance(soft["margin"], int | float):
        return limits.scaled(margin=float(soft["margin"]))
    if not isinstance(soft, dict) or not soft or soft.keys() - {"lower", "upper"}:
        raise LimitsError(f"write {{margin: rad}} or {{lower: [...], upper: [...]}}, not {soft}")
    own = _stated(soft, len(limits.names), None)
    lower, upper = own.get("lower", limits.lower), own.get("upper", limits.upper)
    for bad, what in ((lower < limits.lower, "lower"), (upper > limits.upper, "upper"), (lower >= upper, "lower >= upper")):
        if np.any(bad):
            name = limits.names[int(np.argmax(bad))]
            raise LimitsError(f"joint '{name}' has {what}" if what.startswith("lower >") else f"joint '{name}' would get a wider {what} limit")
    return replace(limits, lower=lower, upper=upper)


def _stated(content: object, count: int, file: Path | None) -> dict[str, NDArray[np.float64]]:
    where = f"{file}: limits: " if file else ""
    if content is None:
        return {}
    if not isinstance(content, dict) or content.keys() - set(_KINDS):
        raise LimitsError(f"{where}give some of {', '.join(_KINDS)}, not {content}")
    arrays = {}
    for kind, value in content.items():
        values = [value] * count if isinstance(value, int | float) else value
        if not isinstance(values, list) or len(values) != count or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            raise LimitsError(f"{where}{kind} needs one number or {count}, one for each joint, not {value}")
        arrays[str(kind)] = np.array(values, dtype=np.float64)
    return arrays


def _limit(kind: str, name: str, text: str | None, own: float | None, urdf: Path, file: Path | None) -> float:
    """One limit of one joint, from the URDF, from the description, or the tighter one of both."""
    if text is None and own is None:
        also = f", or '{kind}' under limits in {file}" if file else ""
        raise LimitsError(f"{urdf}: joint '{name}' has no {kind} limit; add {kind}=\"...\" to its <limit>{also}")
    try:
        values = [float(text)] if text is not None else []
    except ValueError as error:
        raise LimitsError(f"{urdf}: joint '{name}' has {kind}='{text}', which is not a number") from error
    values += [] if own is None else [own]
    if not np.all(np.isfinite(values)):
        raise LimitsError(f"{urdf}: joint '{name}' has a {kind} limit that is not finite")
    if values[-1] < values[0] if kind == "lower" else values[-1] > values[0]:
        raise LimitsError(f"{file}: limits: joint '{name}' would get {kind} {own}, wider than its URDF's {values[0]}")
    return float(values[-1])
