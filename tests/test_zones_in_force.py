"""Zones at run time: the last ones that could be understood stay in force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner_node.guardrails.zone import ZoneError
from planner_node.guardrails.zones_in_force import ZonesInForce

WALL = "[{centre: [0.5, 0.0], half: [0.1, 0.02]}]"
BOTH = "{zones: [{min: [0.4, -0.02], max: [0.6, 0.02], radius: 0.01}], keep_out: [{name: ball, sphere: 0.05, xyz: [0.5, 0.2, 0.2]}]}"
BAD = [
    "[{centre: [0.5], half: [0.1, 0.02]}]",
    "[{min: [0.5, 0.0], max: [0.4, 0.1]}]",
    "{zone: []}",
    "{keep_out: [{name: a}]}",
    "[",
    "wall",
    "[{centre: [.nan, 0.0], half: [0.1, 0.02]}]",
    "[&a {centre: [0, 0], half: [1, 1]}, *a]",
    "[" * 5000,
    "# " + "x" * 20_000,
    "[" + "{centre: [0.5, 0.0], half: [0.1, 0.02]}, " * 65 + "]",
]


def test_zones_and_solids_are_taken_over():
    zones = ZonesInForce(0.01)
    assert zones.guardrails() == [] and not zones.take("")
    assert zones.take(WALL) and not zones.take(WALL), "the same again is no change"
    assert zones.take(BOTH)
    wall, ball = zones.guardrails()
    at = np.array([[[0.5, 0.2, 0.2], [0.5, 0.0, 0.9], [0.3, 0.3, 0.3]]])
    assert (wall.margins(at)[0] >= 0).tolist() == [True, False, True]
    assert (ball.margins(at)[0] >= 0).tolist() == [False, True, True]
    assert wall.margins(at)[0, 1] == pytest.approx(-0.02 - 0.01 - 0.01)
    assert zones.take("[]") and zones.guardrails() == []


def test_another_clearance_keeps_the_zones_that_a_topic_gave():
    zones = ZonesInForce(0.01, WALL)
    assert zones.take(BOTH) and not zones.take("[")
    wider = zones.with_clearance(0.05)
    assert wider.current.zones == zones.current.zones and [solid.name for solid in wider.current.solids] == ["ball"]
    at = np.array([[[0.5, 0.28, 0.2], [0.5, 0.07, 0.2]]])
    for near, far in zip(wider.guardrails(), zones.guardrails(), strict=True):
        assert np.allclose(far.margins(at) - near.margins(at), 0.04)
    assert wider.take(WALL) and len(wider.guardrails()) == 1


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_bad_message_changes_nothing_and_is_named_in_one_line(text):
    zones = ZonesInForce(0.01, WALL)
    before = zones.guardrails()
    assert not zones.take(text)
    assert zones.guardrails() == before and zones.refused and "\n" not in zones.refused and len(zones.refused) <= 300
    assert not zones.take(WALL) and zones.refused == "", "a good one clears the complaint"


def test_what_is_bad_at_the_start_is_said_at_the_start():
    with pytest.raises(ZoneError, match="unknown key 'zone'; did you mean 'zones'"):
        ZonesInForce(0.01, "{zone: []}")


@given(st.text(max_size=60) | st.text("[]{}:,&*-!|>%@ \n\t'\"0.ecntrhalf", max_size=80))
@settings(max_examples=300, deadline=None)
def test_no_text_gets_through_as_an_exception(text):
    zones = ZonesInForce(0.01, WALL)
    before = zones.current
    taken = zones.take(text)
    assert taken == (zones.current != before) and (not zones.refused or zones.current == before)
