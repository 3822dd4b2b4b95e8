"""``planner_file``: solver, critics and their settings in YAML, such as ``launch/config/objective.yaml``.

Example::

    solver: icem            # where the parameters `solver` and `mode` leave the choice
    critics:                # by weight, or with settings; without this entry, the solver's own
      temporal_distance: 1.0
      latent_distance: {weight: 5.0, over: last}
    solvers:                # what differs from the defaults
      icem: {samples: 64, iterations: 3}
    batch: 0                # candidates imagined at once; 0 is all
    pace: 0.5
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from planner_node.assembly import PlannerConfig
from planner_node.critics.registry import CRITICS, CriticError
from planner_node.settings import SettingsError, meant
from planner_node.solvers.registry import configured, solver_kind

_KEYS = ("solver", "critics", "solvers", "batch", "pace")


class PlannerFileError(SettingsError):
    """A planner file that cannot be read, with the reason in one line."""


def planner_config(mode: str, solver: str, planner_file: str, **others: Any) -> PlannerConfig:
    """A configuration from a node's parameters: ``solver`` by name counts most, then a ``mode`` other than ``planner``, then the file's solver.

    ``others`` are further fields of ``PlannerConfig``. What needs no model is checked here, so that nothing moves before it is right.

    Raises:
        SettingsError: the solver is unknown, or the file is not understood.
    """
    config = with_planner_file(PlannerConfig(mode=solver or mode, **others), planner_file)
    solver_kind(config.solver)
    return config


def with_planner_file(config: PlannerConfig, path: str) -> PlannerConfig:
    """``config`` with what the file at ``path`` says; an empty path changes nothing.

    Raises:
        PlannerFileError: it cannot be read, or says something that is not understood; unknown solvers, critics and settings are named.
    """
    if not path:
        return config
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise PlannerFileError(f"planner_file {path}: {error.strerror}") from error
    try:
        return with_planner_text(config, text)
    except ValueError as error:
        raise PlannerFileError(f"{path}: {error}") from error


def with_planner_text(config: PlannerConfig, text: str) -> PlannerConfig:
    """``config`` with what the YAML ``text`` says. Its solver counts where ``config.mode`` is ``planner``, which leaves the choice.

    Everything is checked here that needs no model: names, types, ranges, weights.

    Raises:
        SettingsError: it is not understood, in one line.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PlannerFileError(f"not YAML: {' '.join(str(error).split())}") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise PlannerFileError(f"must be a mapping with {', '.join(_KEYS)}")
    for key in content:
        if key not in _KEYS:
            raise PlannerFileError(f"unknown entry '{key}'; there are {', '.join(_KEYS)}{meant(str(key), _KEYS)}")
    changes: dict[str, Any] = {}
    if "solver" in content:
        name = str(content["solver"])
        solver_kind(name)
        if config.mode == "planner":
            changes["mode"] = name
    solvers = _mapping(content, "solvers")
    changes["solvers"] = {**config.solvers, **{str(name): configured(str(name), solvers) for name in solvers}}
    if "critics" in content:
        changes["critics"] = _mapping(content, "critics")
        _check_critics(changes["critics"])
    if "batch" in content:
        if type(content["batch"]) is not int or content["batch"] < 0:
            raise PlannerFileError(f"batch is {content['batch']!r}, must be a whole number of at least 0")
        changes["batch"] = content["batch"]
    if "pace" in content:
        if isinstance(content["pace"], bool) or not isinstance(content["pace"], (int, float)) or not 0 < content["pace"] < math.inf:
            raise PlannerFileError(f"pace is {content['pace']!r}, must be a positive number")
        changes["pace"] = float(content["pace"])
    return replace(config, **changes)


def _mapping(content: Mapping[str, object], key: str) -> dict[str, object]:
    found = content.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise PlannerFileError(f"'{key}' must be a mapping by name, not {found!r}")
    return found


def _check_critics(critics: Mapping[str, object]) -> None:
    """Names and weights; settings are checked where a critic is built, with the heads that it needs."""
    for name, settings in critics.items():
        if name not in CRITICS:
            raise CriticError(f"unknown critic '{name}'; there are {', '.join(CRITICS)}{meant(str(name), list(CRITICS))}")
        weight = settings.get("weight", 1.0) if isinstance(settings, Mapping) else settings
        if weight is not None and (isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf):
            raise CriticError(f"critic '{name}': weight is {weight!r}, must be a finite number of at least 0")
