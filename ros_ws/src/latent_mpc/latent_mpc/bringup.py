"""Which nodes make the system, and where their parameter files and models lie."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from latent_mpc.processes import NodeCommand, Value
from ros_bridge.transport import with_room_for_pictures

MODULES = {
    "sim_node": "sim.sim_node",
    "perception_node": "world_model.perception_node",
    "planner_node": "planner_node.planner_node",
    "guardrail_node": "planner_node.guardrail_node",
    "recorder_node": "latent_mpc.recorder_node",
    "framing_node": "latent_mpc.framing_node",
}
PICTURES = ("sim_node", "framing_node", "perception_node", "recorder_node")
"""Who passes pictures on, and shares memory for them. The guardrail must not: ``ros_bridge.transport`` says why."""
# A bag that is written late is as good; a command is not.
_NICENESS = {"recorder_node": 5}
_PUSHES = ("push", "push-far", "push-further", "push-around")
SHIPPED_MODELS = {"reach": "models/reach", **dict.fromkeys(_PUSHES, "models/push")}


class BringupError(ValueError):
    """A file that the nodes need is not there, with the reason in one line."""


def _shared_folders() -> list[Path]:
    """What a path may be relative to: the working folder, the checkout, and what the package was installed under."""
    checkout = Path(__file__).resolve().parents[4]
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    return [Path.cwd(), checkout, *(prefix / "share" / "latent_mpc" for prefix in (*prefixes, Path(sys.prefix)))]


def find_shared(*paths: str | Path) -> Path:
    """The absolute path of a file or folder of the user's or one that is shipped with the software: the first of ``paths`` that is anywhere.

    Raises:
        BringupError: it is nowhere.
    """
    for path in paths:
        for folder in _shared_folders():
            if (folder / path).exists():
                return (folder / path).resolve()
    raise BringupError(f"{paths[0]} does not exist")


def parameter_file(name: str) -> Path:
    """The shipped parameter file of the node called ``name``.

    Raises:
        BringupError: it is missing.
    """
    file = f"{name.removesuffix('_node')}.yaml"
    return find_shared(Path("launch", "config", file), Path("config", file))


def transport(name: str) -> dict[str, str]:
    """Environment variables that give the node called ``name`` the room that its messages need; those that the user has set stay.

    Raises:
        BringupError: the profile is missing.
    """
    return with_room_for_pictures(find_shared("launch/config/fastdds.xml", "config/fastdds.xml")) if name in PICTURES else {}


def node_command(name: str, **parameters: Value) -> NodeCommand:
    """The node called ``name`` with its shipped parameter file, and ``parameters`` on top of it.

    Raises:
        BringupError: the parameter file is missing.
    """
    return NodeCommand(name, MODULES[name], parameter_file(name), parameters, _NICENESS.get(name, 0), environment=transport(name))
