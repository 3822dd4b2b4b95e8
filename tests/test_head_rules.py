"""Rules and label files: what they say, against geometry by hand, and what they refuse."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from world_model.heads.labels import LabelError, read_labels
from world_model.heads.rule import RuleError, parse_rule

rng = np.random.default_rng(0)
STATE = rng.uniform([0.3, -0.3, 0.0, 0.3, -0.3, -1.5], [0.8, 0.3, 0.5, 0.8, 0.3, 1.5], (40, 6))


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        ("block_x > 0.60", lambda s: s[3] > 0.6),
        ("0.60 < block_x", lambda s: s[3] > 0.6),
        ("-0.1 < tool_y < 0.1", lambda s: -0.1 < s[1] < 0.1),
        ("tool in box(0.5, 0.7, -0.1, 0.1)", lambda s: 0.5 < s[0] < 0.7 and -0.1 < s[1] < 0.1),
        ("tool not in box(0.5, 0.7, -0.1, 0.1)", lambda s: not (0.5 < s[0] < 0.7 and -0.1 < s[1] < 0.1)),
        ("block in disc(0.55, 0.0, 0.08)", lambda s: (s[3] - 0.55) ** 2 + s[4] ** 2 < 0.08**2),
        ("distance(tool, block) < 0.2", lambda s: np.hypot(s[0] - s[3], s[1] - s[4]) < 0.2),
        ("distance(block, (0.5, -0.1)) > 0.2", lambda s: np.hypot(s[3] - 0.5, s[4] + 0.1) > 0.2),
        ("tool_x > 0.5 and not block_y < 0", lambda s: s[0] > 0.5 and not s[4] < 0),
        ("tool_x > 0.7 or abs(block_yaw) > 1", lambda s: s[0] > 0.7 or abs(s[5]) > 1),
        ("2 * tool_x - block_x > 0.6", lambda s: 2 * s[0] - s[3] > 0.6),
    ],
)
def test_a_margin_is_negative_exactly_where_the_rule_holds(text, forbidden):
    margins = parse_rule(text).values(STATE)
    expected = [forbidden(row) for row in STATE]
    assert 0 < sum(expected) < len(expected)
    np.testing.assert_array_equal(margins < 0, expected)


def test_the_margin_of_a_region_is_the_distance_to_its_edge():
    """Against the nearest of many points on the edge."""
    rule = parse_rule("tool in box(0.5, 0.7, -0.1, 0.1)")
    t = np.linspace(0, 1, 2001)
    corners = np.array([[0.5, -0.1], [0.7, -0.1], [0.7, 0.1], [0.5, 0.1], [0.5, -0.1]])
    edge = np.concatenate([a + (b - a) * t[:, None] for a, b in itertools.pairwise(corners)])
    nearest = np.linalg.norm(STATE[:, None, :2] - edge, axis=-1).min(1)
    np.testing.assert_allclose(np.abs(rule.values(STATE)), nearest, atol=1e-4)


def test_units_and_kinds():
    assert (parse_rule("block_x > 0.6").unit, parse_rule("block_x > 0.6").is_margin) == ("m", True)
    assert parse_rule("block_yaw > 0.6").unit == "rad"
    assert parse_rule("block_yaw > 0.6 or tool_x > 0.5").unit == "mixed"
    assert not parse_rule("distance(block, (0.55, 0)) + 0.1 * abs(tool_y)").is_margin


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("blok_x > 0.6", "unknown column 'blok_x'"),
        ("block_x >", "is not a rule"),
        ("__import__('os').system('true') > 1", "is no region or function"),
        ("tool_x.real > 1", "is not a number"),
        ("(lambda: 1)() > 0", "is no region or function"),
        ("tool_x ** 99 > 1", "is not a number"),
        ("tool_x == 0.5", "compare with <, > or in"),
        ("tool in box(0.7, 0.5, -0.1, 0.1)", "is empty"),
        ("tool in box(0.5, 0.7)", "is no region"),
        ("tool in circle(0.5, 0.7, 0.1)", "is no region"),
        ("hand in disc(0.5, 0.7, 0.1)", "is no point"),
        ("tool_x and block_x > 0.5", "compares nothing"),
        ("tool_x > True", "is not a number"),
        ("(" * 300 + "tool_x > 1" + ")" * 300, "characters, more than"),
        ("tool_x > 1; tool_y", "is not a rule"),
    ],
)
def test_what_is_no_rule_is_said_in_one_line(text, says):
    with pytest.raises(RuleError) as caught:
        parse_rule(text)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_label_file(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("episode,frame,label\n0,1,1\n1,2,0\n")
    labels = read_labels(str(file), 2, 3, None)
    assert labels.kind == "class" and labels.known.sum() == 2
    assert labels.values[0, 1] == -1 and labels.values[1, 2] == 1
    np.testing.assert_array_equal(labels.unsafe, [[False, True, False], [False, False, False]])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("episode,frame\n0,0\n", "must name episode, frame and one of"),
        ("episode,frame,label,margin\n0,0,1,1\n", "must name episode, frame and one of"),
        ("episode,frame,label\n0,0,2\n", "must be 0 (safe) or 1 (forbidden)"),
        ("episode,frame,label\n0,5,1\n", "the data hold episodes 0 to 1 of frames 0 to 2"),
        ("episode,frame,margin\n0,0,nan\n", "must be finite"),
        ("episode,frame,label\n0,0,1\n0,0,1\n", "labelled twice"),
        ("episode,frame,label\nzero,0,1\n", "line 2"),
        ("episode,frame,label\n", "labels no frame"),
        ("", "must name episode, frame"),
    ],
)
def test_what_is_no_label_file_is_said_in_one_line(tmp_path, text, says):
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(LabelError) as caught:
        read_labels(str(file), 2, 3, None)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_rule_needs_a_state_and_a_file_must_exist(tmp_path):
    with pytest.raises(LabelError, match="records no state"):
        read_labels("block_x > 0.6", 2, 3, None)
    with pytest.raises(LabelError, match="cannot read"):
        read_labels(str(tmp_path / "none.csv"), 2, 3, None)
