"""Depth: metres from the camera against geometry, and a head that draws it from a latent."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from latent_mpc.cli import run

from sim.arm_world import BLOCK_HALF_M
from sim.tasks import make_env
from world_model.data import DatasetError
from world_model.heads.depth import SIDE, depth_figures, fit_depth, read_depth_data


@pytest.fixture(scope="module")
def scene():
    env = make_env("push")
    env.reset(seed=3)
    yield env
    env.close()


def seen_points(camera, depth):
    """Points ``(h, w, 3)`` in the base frame that the pixels show, by the pinhole model; a row is sampled at its lower edge."""
    forward = np.subtract(camera.target, camera.eye) / np.linalg.norm(np.subtract(camera.target, camera.eye))
    right = np.cross(forward, camera.up)
    right /= np.linalg.norm(right)
    u, v = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 1.0)
    x, y = ((p - size / 2) / camera.focal_px() * depth for p, size in ((u, camera.width), (v, camera.height)))
    return np.array(camera.eye) + x[..., None] * right + y[..., None] * np.cross(forward, right) + depth[..., None] * forward


@pytest.mark.parametrize("side", [32, 64])
def test_depth_is_in_metres(scene, side):
    """Seen points lie on the table, or on the block where it is."""
    camera = scene.task.camera.resized(side, side)
    depth = camera.render_depth(scene.world.client)
    assert depth.shape == (side, side) and depth.dtype == np.float32
    points = seen_points(camera, depth.astype(float))
    height = points[..., 2]
    assert (np.abs(height) < 2e-3).mean() > 0.6, "the table lies at 0"
    block = scene.state().block
    inside = np.linalg.norm(points[..., :2] - [block.x, block.y], axis=-1) < 0.6 * BLOCK_HALF_M[0]
    top = height[inside & (np.abs(height - 2 * BLOCK_HALF_M[2]) < 0.02)]
    assert len(top) >= 2 and np.median(top) == pytest.approx(2 * BLOCK_HALF_M[2], abs=1e-3)


def test_depth_and_picture_show_the_same_block(scene):
    picture, depth = scene.render().astype(float), scene.task.camera.render_depth(scene.world.client).astype(float)
    red = picture[..., 0] - picture[..., 1] > 60
    height = seen_points(scene.task.camera, depth)[..., 2]
    assert red.sum() > 20
    assert (height[red] > 1e-3).mean() > 0.9


def discs(count, rng):
    """Latents that place a near disc in front of a far wall, and what is then seen."""
    latents = rng.uniform(-1, 1, (count, 6)).astype(np.float32)
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) * 2 - 1
    near = (x - 0.6 * latents[:, :1, None]) ** 2 + (y - 0.6 * latents[:, 1:2, None]) ** 2 < 0.15
    return latents, np.where(near, 0.7, 1.0 + 0.2 * y).astype(np.float32)


def test_a_depth_head_beats_the_mean_picture():
    rng = np.random.default_rng(0)
    latents, depth = discs(500, rng)
    head = fit_depth(torch.from_numpy(latents[:400]), torch.from_numpy(depth[:400]), torch.Generator().manual_seed(0), lambda *_: None, steps=250)
    with torch.inference_mode():
        predicted = head(torch.from_numpy(latents[400:])).numpy()
    figures = depth_figures(predicted, depth[400:], depth[:400].mean(0))
    assert predicted.shape == (100, SIDE, SIDE)
    assert figures["scene_rmse_m"] < 0.6 * figures["mean_picture_scene_rmse_m"], figures
    assert figures["delta1"] > figures["mean_picture_delta1"]


def test_figures_by_hand():
    truth = np.ones((2, 2, 2))
    truth[0, 0, 0] = 2.0
    predicted = np.ones((2, 2, 2))
    predicted[1, 1, 1] = 1.2
    figures = depth_figures(predicted, truth, np.ones((2, 2)))
    assert figures["delta1"] == pytest.approx(7 / 8)
    assert figures["rmse_m"] == pytest.approx(np.sqrt((1.0 + 0.04) / 8))
    assert figures["mean_picture_rmse_m"] == pytest.approx(np.sqrt(1 / 8))
    assert figures["scene_delta1"] == pytest.approx(1 / 2) and figures["scene_rmse_m"] == pytest.approx(np.sqrt(1 / 2))


def test_depth_data_from_the_command_line(tmp_path, capsys):
    arguments = ["head", "depth-data", "--task", "push", "--frames", "7", "--out"]
    assert run([*arguments, str(tmp_path / "a")]) == 0 and run([*arguments, str(tmp_path / "b")]) == 0
    data, again = read_depth_data(tmp_path / "a"), read_depth_data(tmp_path / "b")
    assert data.frames.shape == (7, 64, 64, 3) and data.depth.shape == (7, SIDE, SIDE)
    assert list(data.episode) == [0] * 5 + [1] * 2
    np.testing.assert_array_equal(data.depth, again.depth)
    assert json.loads((tmp_path / "a" / "depth.json").read_text())["frames"] == 7
    (tmp_path / "a" / "depth.npy").unlink()
    with pytest.raises(DatasetError, match="holds no depth pictures"):
        read_depth_data(tmp_path / "a")
    capsys.readouterr()
    assert run([*arguments[:-2], "0", "--out", str(tmp_path / "c")]) == 2
    assert "must be at least 1" in capsys.readouterr().err
