"""Pictures as other light and another camera would make them: against formulas evaluated in numpy, and alike however the work is shared out."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from world_model.config import AugmentationConfig
from world_model.training.augmentation import Augmentation, colour_maps

CPU = torch.device("cpu")
COLOURS = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.4, "hue": 0.1, "gain": 0.2}


def windows(count: int = 4, length: int = 3, height: int = 16, width: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, length, height, width, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def jitter(frames: torch.Tensor, step: int = 0, seed: int = 0, **strengths: float) -> torch.Tensor:
    return Augmentation(AugmentationConfig(**strengths), seed, CPU)(frames, step, 0, len(frames))


def test_a_colour_map_is_light_times_contrast_times_saturation_times_hue():
    """Hue as a rotation by OpenCV, the rest as nested functions in numpy."""
    settings = AugmentationConfig(**COLOURS)
    draws = np.random.default_rng(0).uniform(-1, 1, (50, 7))
    matrices, offsets = colour_maps(torch.tensor(draws), settings)
    pixel = np.array([0.8, 0.3, 0.1])
    for draw, matrix, offset in zip(draws, matrices.numpy(), offsets.numpy(), strict=True):
        turned = cv2.Rodrigues(draw[3] * 0.1 * np.pi * np.ones(3) / np.sqrt(3))[0] @ pixel
        grey = turned @ [0.299, 0.587, 0.114]
        coloured = grey + (1 + draw[2] * 0.4) * (turned - grey)
        contrasted = 0.5 + (1 + draw[1] * 0.3) * (coloured - 0.5)
        expected = (1 + draw[0] * 0.3) * (1 + 0.2 * draw[4:]) * contrasted
        assert np.allclose(matrix @ pixel + offset, expected, atol=1e-6)


def test_a_third_of_a_turn_of_hue_exchanges_the_channels():
    matrices, _ = colour_maps(torch.tensor([[0, 0, 0, 1.0, 0, 0, 0]]), AugmentationConfig(hue=2 / 3))
    assert np.allclose(matrices[0].numpy() @ [1, 2, 3], [3, 1, 2], atol=1e-6)


@pytest.mark.parametrize("size", [(16, 20), (9, 7), (64, 64)])
def test_every_frame_is_mapped_by_one_curve_and_one_matrix(size):
    """Least squares through the curve's two powers finds the map of each frame, and it explains every pixel to a rounding."""
    frames = windows(2, 3, *size) // 2 + 64  # nothing is clipped
    changed = jitter(frames, gamma=0.3, **(COLOURS | {"brightness": 0.1, "contrast": 0.1, "gain": 0.1}))
    found = []
    for before, after in zip(frames.flatten(0, 1).numpy() / 255.0, changed.flatten(0, 1).numpy() / 255.0, strict=True):
        inputs = np.concatenate([before.reshape(-1, 3), before.reshape(-1, 3) ** 2, np.ones((before[..., 0].size, 1))], axis=1)
        inside = ((after > 0) & (after < 1)).all(-1).reshape(-1)
        solution, *_ = np.linalg.lstsq(inputs[inside], after.reshape(-1, 3)[inside], rcond=None)
        assert np.abs(inputs[inside] @ solution - after.reshape(-1, 3)[inside]).max() < 1.5 / 255
        found.append(solution)
    assert min(np.abs(a - b).max() for i, a in enumerate(found) for b in found[:i]) > 0.01, "frames of one window are jittered alike"


def test_the_noise_has_the_strength_that_it_says():
    grey = torch.full((8, 2, 32, 32, 3), 128, dtype=torch.uint8)
    gaps = jitter(grey, noise=0.02).double() - 128
    assert float(gaps.std()) == pytest.approx(255 * 0.02, rel=0.03) and abs(float(gaps.mean())) < 0.1
    first, second = gaps[0, 0].flatten().numpy(), gaps[0, 1].flatten().numpy()
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_a_rectangle_of_one_colour_covers_some_frames():
    frames = windows(60, 5)
    changed = jitter(frames, cutout=0.4, cutout_size=0.5)
    covered = (frames != changed).any(-1).flatten(0, 1).numpy()
    hit = covered.any((1, 2))
    assert 0.3 < hit.mean() < 0.5
    for mask, picture in zip(covered[hit], changed.flatten(0, 1)[torch.from_numpy(hit)].numpy(), strict=True):
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        block = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert len(block) <= 8 and block.shape[1] <= 10 and (block == block[0, 0]).all()


def test_the_camera_shakes_once_for_each_window():
    frames = windows(200, 3)
    changed = jitter(frames, shift=2)
    moves = set()
    for before, after in zip(frames.numpy(), changed.numpy(), strict=True):
        padded = np.pad(before, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        fits = [(y, x) for y in range(5) for x in range(5) if np.array_equal(padded[:, y : y + 16, x : x + 20], after)]
        assert len(fits) == 1
        moves.add(fits[0])
    assert len(moves) == 25


ALL = COLOURS | {"gamma": 0.3, "noise": 0.02, "cutout": 0.5, "shift": 2}


def test_it_depends_on_the_place_in_the_whole_batch_and_not_on_who_works_on_it():
    frames = windows(6)
    augment = Augmentation(AugmentationConfig(**ALL), 3, CPU)
    whole = augment(frames, 7, 0, 6)
    assert torch.equal(torch.cat([augment(frames[:2], 7, 0, 6), augment(frames[2:4], 7, 2, 6), augment(frames[4:], 7, 4, 6)]), whole)
    assert torch.equal(jitter(frames, 7, 3, **ALL), whole)
    assert not torch.equal(jitter(frames, 8, 3, **ALL), whole) and not torch.equal(jitter(frames, 7, 4, **ALL), whole)


@pytest.mark.parametrize("strengths", [{}, ALL, {"cutout": 1.0}, {"shift": 3}, {"noise": 0.1}])
def test_the_pictures_that_were_given_stay_as_they_are(strengths):
    frames = windows()
    before = frames.clone()
    changed = jitter(frames, **strengths)
    assert torch.equal(frames, before) and changed.dtype == torch.uint8 and changed.shape == frames.shape
    assert torch.equal(changed, before) == (not strengths)
