"""Zones and workspace: distances against brute force, normals against finite differences, and YAML that says what is wrong with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arm_model import ToolStep
from planner_node.guardrails.guardrail import sampled
from planner_node.guardrails.workspace import WorkspaceGuardrail
from planner_node.guardrails.zone import Zone, ZoneError, ZoneGuardrail, read_zones

WALL = Zone(centre=(0.5, 0.1), half=(0.09, 0.02), yaw=0.4)
PILLAR = Zone(centre=(0.5, 0.0), half=(0.0, 0.0), radius=0.07)
ROUNDED = Zone(centre=(0.4, -0.1), half=(0.05, 0.08), yaw=-1.2, radius=0.03)
ZONES = [WALL, PILLAR, ROUNDED]


def boundary(zone: Zone, count: int = 4000) -> np.ndarray:
    """Points ``(N, 2)`` on the edge of a zone: each point of the box's outline pushed out by the radius in every direction that leads out."""
    ticks = np.linspace(-1, 1, count // 4)
    ones = np.ones_like(ticks)
    outline = np.concatenate([np.stack(side, axis=1) for side in ((ticks, ones), (ticks, -ones), (ones, ticks), (-ones, ticks))]) * zone.half
    if zone.radius:
        angles = np.linspace(0, 2 * np.pi, 240, endpoint=False)
        circle = zone.radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * zone.half
        grown = (np.concatenate([outline[:: max(1, len(outline) // 200)], corners])[:, None] + circle).reshape(-1, 2)
        outside = np.linalg.norm(np.maximum(np.abs(grown) - zone.half, 0.0), axis=1)
        outline = np.unique(grown[outside > zone.radius - 1e-9].round(9), axis=0)
    cos, sin = np.cos(zone.yaw), np.sin(zone.yaw)
    return outline @ np.array([[cos, sin], [-sin, cos]]) + zone.centre


def inside(zone: Zone, point: np.ndarray) -> bool:
    cos, sin = np.cos(zone.yaw), np.sin(zone.yaw)
    x, y = point - zone.centre
    along, across = abs(cos * x + sin * y) - zone.half[0], abs(-sin * x + cos * y) - zone.half[1]
    return bool(np.hypot(max(along, 0), max(across, 0)) < zone.radius or (along < 0 and across < 0))


@pytest.mark.parametrize("zone", ZONES)
def test_the_signed_distance_is_that_to_the_nearest_point_of_the_edge(zone):
    edge = boundary(zone)
    points = np.array(zone.centre) + np.random.default_rng(0).uniform(-0.25, 0.25, (300, 2))
    for point in points:
        nearest = np.linalg.norm(edge - point, axis=1).min()
        signed = float(zone.signed_distance(point))
        assert (signed < 0) == inside(zone, point)
        if signed > 0 or zone.radius == 0 or zone.half == (0.0, 0.0):
            assert abs(signed) == pytest.approx(nearest, abs=2e-3)
        else:
            assert signed >= -nearest - 2e-3, "inside a rounded box it never promises more depth than there is"


@pytest.mark.parametrize("zone", ZONES)
def test_the_height_of_a_point_does_not_matter(zone):
    points = np.random.default_rng(1).uniform(0, 1, (2, 5, 3))
    assert zone.signed_distance(points).shape == (2, 5)
    assert np.array_equal(zone.signed_distance(points), zone.signed_distance(points[..., :2]))


@pytest.mark.parametrize("zone", ZONES)
def test_the_normal_is_the_slope_of_the_distance(zone):
    step = 1e-6
    points = np.array(zone.centre) + np.random.default_rng(2).uniform(-0.25, 0.25, (300, 2))
    slope = np.stack([(zone.signed_distance(points + d) - zone.signed_distance(points - d)) / (2 * step) for d in step * np.eye(2)], axis=1)
    smooth = np.abs(np.linalg.norm(slope, axis=1) - 1) < 1e-4  # not on a ridge, where two sides are equally near
    assert smooth.mean() > 0.9
    assert np.allclose(zone.normal(points)[smooth], slope[smooth], atol=1e-4)
    assert np.allclose(np.linalg.norm(zone.normal(points), axis=1), 1.0)


@pytest.mark.parametrize("zone", ZONES)
def test_the_normal_is_a_direction_even_at_the_centre_and_on_the_edge(zone):
    points = np.array([zone.centre, *zone.corners(), *boundary(zone)[:50]])
    assert np.allclose(np.linalg.norm(zone.normal(points), axis=1), 1.0)


def test_corners_lie_on_the_box_around_the_zone():
    assert np.allclose(WALL.signed_distance(WALL.corners()), 0.0, atol=1e-12)
    assert np.ptp(PILLAR.corners(), axis=0) == pytest.approx([0.14, 0.14])


@given(st.floats(-3, 3), st.floats(-3.1, 3.1), st.floats(0, 0.2), st.floats(0, 0.2), st.floats(0, 0.1))
@settings(max_examples=60, deadline=None)
def test_the_distance_never_changes_faster_than_the_point_moves(x, yaw, a, b, radius):
    if max(a, b, radius) == 0:
        return
    zone = Zone((x, 0.0), (a, b), yaw, radius)
    points = np.random.default_rng(3).uniform(-1, 1, (40, 2)) + np.array([x, 0.0])
    moves = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert np.all(np.abs(np.diff(zone.signed_distance(points))) <= moves + 1e-9)


def test_clearance_is_taken_off_the_margin():
    points = np.array([[0.5, 0.2, 0.1], [0.5, 0.0, 0.1]])
    assert np.allclose(ZoneGuardrail(PILLAR, 0.02).margins(points), PILLAR.signed_distance(points) - 0.02)


@pytest.mark.parametrize(
    "bad",
    [
        {"centre": (np.nan, 0.0), "half": (0.1, 0.1)},
        {"centre": (0.0, 0.0), "half": (np.inf, 0.1)},
        {"centre": (0.0, 0.0), "half": (-0.1, 0.1)},
        {"centre": (0.0, 0.0), "half": (0.1, 0.1), "radius": -0.1},
        {"centre": (0.0, 0.0), "half": (0.0, 0.0)},
    ],
)
def test_a_zone_without_a_size_or_with_strange_numbers_is_refused(bad):
    with pytest.raises(ZoneError):
        Zone(**bad)


def test_zones_are_read_from_yaml_and_json():
    text = "[{centre: [0.5, 0.1], half: [0.09, 0.02], yaw: 0.4}, {centre: [0.5, 0], half: [0, 0], radius: 0.07}]"
    assert read_zones(text) == (WALL, PILLAR)
    assert read_zones('[{"centre": [0.5, 0.0], "half": [0.0, 0.0], "radius": 0.07}]') == (PILLAR,)
    assert read_zones("") == read_zones("  \n") == read_zones("[]") == ()


@pytest.mark.parametrize(
    "text",
    [
        "{centre: [0, 0], half: [1, 1]}",
        "wall",
        "[wall]",
        "[{centre: [0, 0]}]",
        "[{centre: [0, 0], half: [1, 1], colour: red}]",
        "[{centre: [0, 0, 0], half: [1, 1]}]",
        "[{centre: 0, half: [1, 1]}]",
        "[{centre: [a, b], half: [1, 1]}]",
        "[{centre: [.nan, 0], half: [1, 1]}]",
        "[{centre: [0, 0], half: [1, 1], yaw: }]",
        "[{centre: [0, 0",
        "a: b: c",
    ],
)
def test_zones_that_cannot_be_understood_are_refused_in_one_line(text):
    with pytest.raises(ZoneError) as caught:
        read_zones(text)
    assert "\n" not in str(caught.value)


# Paths.


def test_a_path_is_sampled_finely_and_without_its_first_point():
    points = np.array([[[0.0, 0.0, 0.0], [0.04, 0.0, 0.0], [0.04, 0.04, 0.0]]])
    path = sampled(points)
    assert path.shape == (1, 16, 3)
    assert np.allclose(np.linalg.norm(np.diff(path[0], axis=0), axis=1), 0.005)
    assert np.allclose(path[0, 7], points[0, 1]) and np.allclose(path[0, -1], points[0, 2]) and path[0, 0, 0] == pytest.approx(0.005)


def test_the_workspace_margin_is_the_distance_to_the_nearest_face():
    guardrail = WorkspaceGuardrail(ToolStep(0.04, 0.2, (0.3, -0.2, 0.1), (0.7, 0.2, 0.4)))
    margins = guardrail.margins(np.array([[0.5, 0.0, 0.2], [0.7, 0.0, 0.2], [0.71, 0.0, 0.2], [0.5, 0.0, 0.05]]))
    assert np.allclose(margins, [0.1, 0.0, -0.01, -0.05], atol=1e-5)
    assert margins[1] >= 0, "on the face is inside"


def test_a_workspace_without_height_is_measured_in_the_plane():
    guardrail = WorkspaceGuardrail(ToolStep(0.04, 0.2, (0.3, -0.2, 0.02), (0.7, 0.2, 0.02)))
    assert np.allclose(guardrail.margins(np.array([[0.5, 0.0, 0.02], [0.65, 0.0, 0.02], [0.5, 0.0, 0.03]])), [0.2, 0.05, -0.01], atol=1e-5)
