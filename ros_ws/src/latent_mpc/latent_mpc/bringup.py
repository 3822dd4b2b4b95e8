"""Which nodes make the system, and where their parameter files and models lie."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from latent_mpc.processes import NodeCommand, Value

MODULES = {
    "sim_node": "sim.sim_node",
    "perception_node": "world_model.perception_node",
    "planner_node": "planner_node.planner_node",
    "guardrail_node": "planner_node.guardrail_node",
    "recorder_node": "latent_mpc.recorder_node",
}
_PARAMETER_FILES = {name: f"{name.removesuffix('_node')}.yaml" for name in MODULES}


class BringupError(ValueError):
    """A file that the nodes need is not there, with the reason in one line."""


def shared_folders() -> list[Path]:
    """Where ``launch/`` and ``models/`` may lie: the working folder, the checkout, and what a package was installed under."""
    checkout = Path(__file__).resolve().parents[4]
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    return [Path.cwd(), checkout, *(prefix / "share" / "latent_mpc" for prefix in (*prefixes, Path(sys.prefix)))]


def find_shared(path: str | Path) -> Path:
    """The absolute path of a file or folder that is shipped with the software, or of one of the user's.

    Raises:
        BringupError: it is nowhere.
    """
    for folder in shared_folders():
        if (folder / path).exists():
            return (folder / path).resolve()
    raise BringupError(f"{path} does not exist")


def node_command(name: str, **parameters: Value) -> NodeCommand:
    """The node called ``name`` with its shipped parameter file, and ``parameters`` on top of it.

    Raises:
        BringupError: the parameter file is missing.
    """
    return NodeCommand(name, MODULES[name], find_shared(Path("launch", "config", _PARAMETER_FILES[name])), parameters)
