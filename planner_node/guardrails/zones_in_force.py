"""Zones that change while the planner runs: what a topic says is taken over whole, or refused and nothing changes."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from arm_model import SceneError
from arm_model.scene import parse_scene
from planner_node.guardrails.guardrail import Guardrail
from planner_node.guardrails.keep_out import KeepOutGuardrail
from planner_node.guardrails.options import GuardrailError, require_known
from planner_node.guardrails.zone import Zone, ZoneError, ZoneGuardrail, parse_zones

# A message that is longer, or has more in it, is a mistake or an attack; judging candidates would take too long.
_LONGEST = 16_384
_MOST = 64
_LONGEST_REASON = 300
# Brackets in brackets take YAML a time that grows with their square.
_MOST_BRACKETS = 6 * _MOST


@dataclass(frozen=True)
class ZoneSet:
    """Upright ``zones`` and ``solids`` that the tool point must not enter; together they are what a search is fenced in by."""

    zones: tuple[Zone, ...] = ()
    solids: tuple[KeepOutGuardrail, ...] = ()

    def guardrails(self, clearance_m: float) -> list[Guardrail]:
        """One for each zone and solid."""
        return [*(ZoneGuardrail(zone, clearance_m) for zone in self.zones), *self.solids]


class ZonesInForce:
    """The last zones that could be understood. ``refused`` says in one line what was wrong with a message after it, and is empty otherwise."""

    def __init__(self, clearance_m: float, initial: str = "") -> None:
        """Raises ZoneError when ``initial`` cannot be understood: before anything moves there is somebody to tell."""
        self._clearance_m = clearance_m
        self.current = read_zone_set(initial, clearance_m)
        self._text = initial
        self.refused = ""

    def with_clearance(self, clearance_m: float) -> ZonesInForce:
        """The same zones, wherever they came from, kept another ``clearance_m`` away from."""
        return ZonesInForce(clearance_m, self._text)

    def take(self, text: str) -> bool:
        """Take ``text`` over, if it can be understood; True when what is in force has changed."""
        try:
            new = read_zone_set(text, self._clearance_m)
        except ZoneError as error:
            self.refused = str(error)[:_LONGEST_REASON]
            return False
        changed = new != self.current
        self.current, self._text, self.refused = new, text, ""
        return changed

    def guardrails(self) -> list[Guardrail]:
        """What the search is to be fenced in by now."""
        return self.current.guardrails(self._clearance_m)


def read_zone_set(text: str, clearance_m: float) -> ZoneSet:
    """Zones from YAML: a list as ``read_zones`` takes it, or a mapping with ``zones`` and ``keep_out``; empty text is no zone at all.

    Raises:
        ZoneError: the text is too long or not such YAML, or a zone or solid is malformed.
    """
    if len(text) > _LONGEST:
        raise ZoneError(f"zones of {len(text)} characters; at most {_LONGEST} are read")
    if text.count("[") + text.count("{") > _MOST_BRACKETS:
        raise ZoneError(f"zones with more than {_MOST_BRACKETS} brackets; at most {_MOST} zones are kept")
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ZoneError("zones must not use YAML aliases: a few of them unfold without end")
        content = yaml.safe_load(text)
        if isinstance(content, dict):
            require_known(content, ("zones", "keep_out"), "zones: unknown key", "keys")
            solids = tuple(KeepOutGuardrail(obstacle, clearance_m) for obstacle in parse_scene(content.get("keep_out")).obstacles)
            found = ZoneSet(parse_zones(content.get("zones")), solids)
        else:
            found = ZoneSet(parse_zones(content))
    except (yaml.YAMLError, RecursionError) as error:
        raise ZoneError(f"zones are not YAML: {' '.join(str(error).split())}") from error
    except (SceneError, GuardrailError) as error:
        raise ZoneError(str(error)) from error
    if len(found.zones) + len(found.solids) > _MOST:
        raise ZoneError(f"{len(found.zones) + len(found.solids)} zones; at most {_MOST} are kept")
    return found
