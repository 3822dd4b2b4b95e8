"""The workspace of the guardrail: what its YAML means, and which YAML is refused."""

from __future__ import annotations

import numpy as np
import pytest

from planner_node.workspace import WorkspaceError, read_workspace


def test_a_box_and_a_half_space_have_margins_in_metres():
    workspace = read_workspace("{min: [0.1, -0.4, 0.0], max: [0.8, 0.4, 1.0], half_spaces: [{normal: [0, 0, 2], offset: 1.8}]}")
    points = np.random.default_rng(0).uniform(-1.0, 1.5, (50, 3))
    x, y, z = points.T
    expected = np.array([x - 0.1, y + 0.4, z, 0.8 - x, 0.4 - y, 1.0 - z, 0.9 - z]).T
    assert workspace.margins(points) == pytest.approx(expected)
    assert len(workspace.names) == 7


def test_nothing_is_no_workspace():
    assert read_workspace("").names == () and read_workspace("{}").margins(np.zeros(3)).size == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{min: [0.5, 0, 0], max: [0.5, 1, 1]}", "min 0.5 >= max 0.5 along x"),
        ("{min: [0, 0]}", "needs 3 numbers"),
        ("{min: [0, .nan, 0]}", "not finite"),
        ("{min: [0, true, 0]}", "needs 3 numbers"),
        ("{floor: 0}", "must be"),
        ("[1, 2]", "must be"),
        ("{min: [0", "not YAML"),
        ("{half_spaces: [{normal: [0, 0, 0], offset: 1}]}", "no direction"),
        ("{half_spaces: [{normal: [0, 0, 1]}]}", "half-space is"),
        ("{half_spaces: {normal: [0, 0, 1]}}", "must be a list"),
        ("{half_spaces: [{normal: [0, 0, 1], offset: low}]}", "needs 1 number,"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(text, reason):
    with pytest.raises(WorkspaceError, match=reason) as caught:
        read_workspace(text)
    assert "\n" not in str(caught.value)
