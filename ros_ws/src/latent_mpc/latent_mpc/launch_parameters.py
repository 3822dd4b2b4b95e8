"""Which parameter files a node gets, in which order. Later ones win: what is shipped, what the user wrote, what the launch file was told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from latent_mpc.bringup import MODULES, BringupError, find_shared, parameter_file

_ANY_NODE = ("/**", "/*")


def shipped_parameters(name: str) -> dict[str, Any]:
    """The parameters of the node called ``name`` in its shipped file; they hold in every namespace, which the file itself would not.

    Raises:
        BringupError: the file is missing.
    """
    content = yaml.safe_load(parameter_file(name).read_text())
    return dict(content[name]["ros__parameters"])


def overlay(path: str, name: str, namespace: str = "") -> dict[str, Any]:
    """What the user's parameter file ``path`` says to the node called ``name`` in ``namespace``; empty without a file.

    A block may be called ``name``, ``/namespace/name``, ``/**/name`` or ``/**``; of several that fit, the more special wins.

    Raises:
        BringupError: the file is missing or no parameter file, or a block in it fits no node of ours.
    """
    if not path:
        return {}
    file = find_shared(path)
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BringupError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not all(
        isinstance(block, dict) and isinstance(block.get("ros__parameters"), dict) for block in content.values()
    ):
        raise BringupError(f"{file} is no parameter file: write 'node_name:' and below it 'ros__parameters:'")
    for key in content:
        if key not in _ANY_NODE and str(key).rpartition("/")[2] not in MODULES:
            raise BringupError(f"{file}: '{key}' is no node of ours; they are {', '.join(MODULES)}")
    own = f"/{namespace.strip('/')}/{name}".replace("//", "/")
    found: dict[str, Any] = {}
    for key in (*_ANY_NODE, f"/**/{name}", name, own):
        found.update(content.get(key, {}).get("ros__parameters", {}))
    return found


def given(asked: Mapping[str, str], **parameters: str) -> dict[str, str]:
    """Those of the arguments ``asked`` that were given, by the parameter that each sets: ``given(asked, zones="zones")``."""
    return {parameter: asked[argument] for parameter, argument in parameters.items() if asked[argument]}


def existing(path: str) -> str:
    """The absolute path of a file that ``path`` names, or ``path`` itself where it names none: it may be YAML, or a shipped name."""
    try:
        return str(find_shared(path)) if path and "\n" not in path and len(path) < 1000 and Path(path).suffix else path
    except (BringupError, OSError):
        return path
