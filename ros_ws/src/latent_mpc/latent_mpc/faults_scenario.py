"""Scenarios of the fault suite in YAML: which nodes run, what is done to them, when, for how long, and what must hold of what was published."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from arm_model.near_names import did_you_mean
from latent_mpc.faults_rows import ROWS
from latent_mpc.processes import Value

ARMS, PLANNERS = ("sim", "ideal"), ("real", "scripted", "none")
LINKS = ("joint_states", "camera", "plan")
NODES = ("sim_node", "perception_node", "planner_node", "guardrail_node", "recorder_node", "faults_arm", "faults_camera", "faults_planner")
# What each fault may be done to: a link that the saboteur carries, a node, or nothing in particular.
_JOINTS, _PICTURES, _PLANS, _NONE = ("joint_states",), ("camera",), ("plan",), ("",)
FAULTS: dict[str, tuple[str, ...]] = {
    "silence": LINKS,
    "drop": LINKS,
    "delay": LINKS,
    "frozen_stamp": LINKS,
    "duplicate": LINKS,
    "old_stamp": LINKS,
    "non_finite": ("joint_states", "plan"),
    "reorder": ("joint_states", "plan"),
    "rename": ("joint_states", "plan"),
    "missing_joint": ("joint_states", "plan"),
    "duplicate_name": ("joint_states", "plan"),
    "extra_joint": _JOINTS,
    "offset": _JOINTS,
    "wrong_length": ("joint_states", "plan"),
    "jump": _PLANS,
    "reversed_time": _PLANS,
    "hostile": _PLANS,
    "encoding": _PICTURES,
    "size": _PICTURES,
    "step": _PICTURES,
    "endianness": _PICTURES,
    "fuzz": LINKS,
    "rival": _NONE,
    "clock_jump": _NONE,
    "kill": NODES,
    "suspend": NODES,
    "file_limit": ("recorder_node",),
    "e_stop": _NONE,
    "reactivate": _NONE,
    "sim_reset": _NONE,
}
BY_THE_RUNNER = ("kill", "suspend", "file_limit", "e_stop", "reactivate", "sim_reset")
Bar = float | str | tuple[str, ...]


class ScenarioError(ValueError):
    """A scenario that cannot be run, with the reason in one line."""


@dataclass(frozen=True)
class Fault:
    """``kind`` done to ``target`` from ``at_s`` after the arm was seen to move, for ``for_s`` seconds. ``amount`` is in the unit of the kind."""

    kind: str
    target: str = ""
    at_s: float = 0.0
    for_s: float = 1.0
    amount: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """One run. The faults are done ``repeats`` times; after each the runner brings everything back to life and lets the arm move again.

    ``planner`` real means that perception and planner run as shipped, shown goals of ``task``; scripted is a source of plans that sway every joint,
    or do what ``motion`` says. Plans pass through the saboteur unless ``plans_carried`` is False. ``moving`` False lets the arm hold. ``window_s`` is
    how long after each fault's begin what is published belongs to it.
    """

    name: str
    row: str
    faults: tuple[Fault, ...]
    checks: Mapping[str, Bar]
    arm: str = "ideal"
    planner: str = "scripted"
    task: str = "reach"
    motion: str = "sway"
    plan_rate_hz: float = 20.0
    recorder: bool = False
    scripted_clock: bool = False
    plans_carried: bool = True
    moving: bool = True
    recover: bool = True
    repeats: int = 1
    window_s: float = 1.5
    seed: int = 0
    parameters: Mapping[str, Mapping[str, Value]] | None = None

    @property
    def longest_s(self) -> float:
        """Seconds from the first fault's begin to the last one's end."""
        return max((fault.at_s + fault.for_s for fault in self.faults), default=0.0)


def read_scenario(file: Path, checks: Iterable[str]) -> Scenario:
    """Read one YAML file; ``checks`` are the names of checks that there are.

    Raises:
        ScenarioError: the file is malformed, or names a row, node, fault or check that there is not; times are negative.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ScenarioError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from error
    try:
        return parse_scenario(content, checks)
    except ScenarioError as error:
        raise ScenarioError(f"{file}: {error}") from error


def parse_scenario(content: Any, checks: Iterable[str]) -> Scenario:
    """A scenario from what YAML gave; see ``read_scenario``."""
    if not isinstance(content, dict):
        raise ScenarioError("not a mapping")
    fields = Scenario.__dataclass_fields__
    for key in content:
        _known("key", str(key), fields)
    missing = [key for key in ("name", "row", "checks") if not content.get(key)]
    if missing:
        raise ScenarioError(f"missing {', '.join(missing)}")
    _known("row", str(content["row"]), ROWS)
    values = dict(content)
    for key, choices in (("arm", ARMS), ("planner", PLANNERS)):
        if key in values:
            _known(key, str(values[key]), choices)
    for key in ("window_s", "plan_rate_hz"):
        if key in values:
            values[key] = _number(key, values[key], above=0.0)
    if "repeats" in values and (not isinstance(values["repeats"], int) or values["repeats"] < 1):
        raise ScenarioError(f"repeats is {values['repeats']}, must be a whole number of at least 1")
    if not isinstance(values["checks"], dict):
        raise ScenarioError("checks must map the name of a check to its bar")
    known = tuple(checks)
    for check in values["checks"]:
        _known("check", str(check), known)
    values["checks"] = {str(name): _bar(str(name), bar) for name, bar in values["checks"].items()}
    faults = values.get("faults") or []
    if not isinstance(faults, list):
        raise ScenarioError("faults must be a list")
    values["faults"] = tuple(_fault(entry) for entry in faults)
    scenario = Scenario(**values)
    if scenario.planner == "real" and scenario.arm != "sim":
        raise ScenarioError("a real planner needs pictures: set arm: sim")
    return scenario


def _fault(content: Any) -> Fault:
    if not isinstance(content, dict) or "kind" not in content:
        raise ScenarioError(f"a fault must be a mapping with a kind, not {content!r}")
    for key in content:
        _known("key of a fault", str(key), Fault.__dataclass_fields__)
    kind, target = str(content["kind"]), str(content.get("target", ""))
    _known("fault", kind, FAULTS)
    if target not in FAULTS[kind]:
        choices = ", ".join(FAULTS[kind]) if FAULTS[kind] != _NONE else "no target"
        raise ScenarioError(f"fault '{kind}' cannot be done to '{target}'; it takes {choices}")
    numbers = {key: _number(f"{key} of '{kind}'", content[key]) for key in ("at_s", "for_s") if key in content}
    amount = content.get("amount", 0.0)
    if not isinstance(amount, int | float) or not math.isfinite(amount):
        raise ScenarioError(f"amount of '{kind}' is {amount!r}, must be a finite number")
    if kind == "drop" and not 0.0 < amount <= 1.0:
        raise ScenarioError(f"amount of 'drop' is {amount}, must be a share in (0, 1]")
    return Fault(kind, target, amount=float(amount), **numbers)


def _number(name: str, value: object, above: float = -1e-300) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ScenarioError(f"{name} is {value!r}, must be a finite number")
    if value <= above:
        raise ScenarioError(f"{name} is {value}, must {'be positive' if above >= 0 else 'not be negative'}")
    return float(value)


def _bar(name: str, value: object) -> Bar:
    if isinstance(value, list):
        return tuple(str(entry) for entry in value)
    if isinstance(value, str):
        return value
    return _number(f"bar of '{name}'", value)


def _known(what: str, name: str, choices: Iterable[str]) -> None:
    known = [choice for choice in choices if choice]
    if name not in known:
        raise ScenarioError(f"unknown {what} '{name}'; {did_you_mean(name, known) or 'choose one of ' + ', '.join(known)}")
