"""The reference page of all parameters, from their declarations."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from latent_mpc.framing_node import FramingParameters
from latent_mpc.markdown_table import markdown_table
from latent_mpc.recorder_node import RecorderParameters
from planner_node.guardrail_parameters import GuardrailParameters
from planner_node.planner_parameters import PlannerParameters
from sim.sim_node import EpisodeParameters, SceneParameters
from world_model.perception_node import PerceptionParameters

_TYPES = {bool: "bool", int: "integer", float: "double", str: "string", tuple[float, ...]: "double array", tuple[int, ...]: "integer array"}
_HEAD = ["parameter", "type", "default", "range", "meaning", "at run time"]
_INTRODUCTION = """# Parameters

Made by `latent-mpc parameters --page docs/parameters.md` from the declarations in the nodes; a test keeps it current. Values are checked for type,
range and finiteness whenever they are set; a wrong one ends a node at its start with one line, and is refused with the reason while it runs. `fixed`
parameters take effect only at the start. What the guardrail's promised stop was computed from (arm, limits, scene, workspace) is fixed for that
reason; what its watchdogs put up with is not.
"""


@dataclass(frozen=True)
class Declared:
    """A node's dataclass of parameters, and whether those that are not fixed may be set while the node runs."""

    node: str
    module: str
    parameters: type[Any]
    dynamic: bool


DECLARED = (
    Declared("framing_node", "ros_ws/src/latent_mpc/latent_mpc/framing_node.py", FramingParameters, dynamic=False),
    Declared("guardrail_node", "planner_node/guardrail_parameters.py", GuardrailParameters, dynamic=True),
    Declared("perception_node", "world_model/perception_node.py", PerceptionParameters, dynamic=False),
    Declared("planner_node", "planner_node/planner_node.py", PlannerParameters, dynamic=True),
    Declared("recorder_node", "ros_ws/src/latent_mpc/latent_mpc/recorder_node.py", RecorderParameters, dynamic=False),
    Declared("sim_node", "sim/sim_node.py", SceneParameters, dynamic=False),
    Declared("sim_node", "sim/sim_node.py", EpisodeParameters, dynamic=True),
)


def parameter_page() -> str:
    """The whole page, in Markdown."""
    parts = [_INTRODUCTION]
    seen = ""
    for declared in DECLARED:
        if declared.node != seen:
            parts.append(f"## {declared.node}\n\n`{declared.module}`\n")
        else:
            parts.append("")
        seen = declared.node
        parts.append(markdown_table(_HEAD, _rows(declared)) + "\n")
    return "\n".join(parts)


def _rows(declared: Declared) -> list[list[str]]:
    hints = get_type_hints(declared.parameters)
    rows = []
    for field in fields(declared.parameters):
        about = field.metadata
        rows.append(
            [
                f"`{field.name}`",
                _TYPES.get(hints[field.name], "string array"),
                f"`{_text(field.default)}`",
                _range(about["at_least"], about["at_most"], about["choices"]),
                str(about["description"]).replace("|", "\\|"),
                "yes" if declared.dynamic and not about["fixed"] else "fixed",
            ]
        )
    return rows


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_text(element) for element in value)}]"
    return '""' if value == "" else str(value)


def _range(low: float | None, high: float | None, choices: tuple[str, ...]) -> str:
    if choices:
        return ", ".join(choices)
    if low is None and high is None:
        return ""
    return f"[{'-inf' if low is None else f'{low:g}'}, {'inf' if high is None else f'{high:g}'}]"
