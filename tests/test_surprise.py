"""The statistic against an independent evaluation, its calibration, and what the monitor makes of a camera that is faster than the model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latent_mpc.auroc import auroc95
from linear_world import LinearWorld

from world_model.protocol import Context
from world_model.surprise import (
    SurpriseCalibration,
    SurpriseError,
    SurpriseMonitor,
    Terms,
    calibrate,
    carried_calibration,
    run_scores,
    run_terms,
    score,
)

CALIBRATION = SurpriseCalibration(scale=(0.5, 1.5, 3.0), threshold=0.4)


class Drifting:
    """z' = 0.9 z_t + 0.05 (z_t - z_{t-2}) + B a + 0.02 a_{t-1}: it needs the whole history, so that a wrong one shows."""

    history, latent_dim, action_dim = 3, 4, 2
    drive = np.array([[1.0, 0.2, -0.4, 0.1], [0.3, -0.8, 0.5, 0.2]])

    def encode(self, frames):
        raise NotImplementedError

    def one(self, latents, actions):
        """The next latent from three latents and the three actions after each of them."""
        return 0.9 * latents[2] + 0.05 * (latents[2] - latents[0]) + actions[2] @ self.drive + 0.02 * actions[1].sum()

    def rollout(self, context: Context, actions):
        assert context.latents.dtype == context.actions.dtype == actions.dtype == np.float32
        assert context.latents.shape[1:] == (3, 4) and context.actions.shape[1:] == (2, 2)
        out = np.zeros((len(actions), actions.shape[1], 4), np.float32)
        for n in range(len(actions)):
            latents, past = list(context.latents[n]), list(context.actions[n])
            for h, action in enumerate(actions[n]):
                out[n, h] = self.one(latents[-3:], [*past[-2:], action])
                latents.append(out[n, h])
                past.append(action)
        return out


def wandering(seed: int, count: int = 14) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 4)).astype(np.float32), rng.uniform(-1, 1, (count - 1, 2)).astype(np.float32)


def independent_score(z: np.ndarray, a: np.ndarray, t: int) -> float:
    """The formula of the docstring with loops, from the whole run."""
    model, above, below = Drifting(), 0.0, 0.0
    for i in (t, t - 1, t - 2):
        for k, m in zip((1, 2, 3), CALIBRATION.scale, strict=True):
            if i - k < 0:
                continue
            latents = [z[max(j, 0)] for j in range(i - k - 2, i - k + 1)]
            actions = [a[j] if j >= 0 else np.zeros(2) for j in range(i - k - 2, i)]
            for step in range(k):
                latents.append(model.one(latents[-3:], actions[step : step + 3]))
            predicted = latents[-1]
            above += np.sum((z[i] - predicted) ** 2) / m
            below += (np.sum((z[i] - z[i - k]) ** 2) + np.sum((predicted - z[i - k]) ** 2)) / m + 0.05
    return above / below


def test_the_scores_of_a_run_are_those_of_the_formula():
    z, a = wandering(0)
    scores = run_scores(run_terms(Drifting(), z, a, (1, 2, 3)), CALIBRATION)
    assert np.isnan(scores[:3]).all(), "no full window yet"
    assert scores[3:] == pytest.approx([independent_score(z, a, t) for t in range(3, len(z))], rel=1e-4)


@pytest.mark.parametrize("frames_per_step", [1, 4])
def test_the_monitor_scores_each_frame_as_if_only_those_a_step_apart_had_been_seen(frames_per_step):
    """Several interleaved runs, one for each phase of a camera that is faster than the model, with stamps like today's."""
    runs = [wandering(seed) for seed in range(frames_per_step)]
    positions = [np.concatenate([np.zeros((1, 2)), np.cumsum(a, axis=0)]) for _, a in runs]
    monitor, readings = SurpriseMonitor(Drifting(), CALIBRATION, 0.2), []
    for t in range(14):
        for phase in range(frames_per_step):
            stamp = 1.7e9 + 0.2 * t + 0.2 / frames_per_step * phase
            readings.append(monitor.see(stamp, runs[phase][0][t], positions[phase][t]))
    for phase in range(frames_per_step):
        mine = readings[phase::frames_per_step]
        # What came before the first frame is another matter with several phases: from the sixth step on nothing is left of it.
        for t in range(3 if frames_per_step == 1 else 7, 14):
            assert mine[t] is not None
            assert mine[t].score == pytest.approx(independent_score(*runs[phase], t), rel=1e-3)
            assert mine[t].surprised == (mine[t].score > 0.4)
    assert readings[: 3 * frames_per_step - 1] == [None] * (3 * frames_per_step - 1)


def driven(monitor: SurpriseMonitor, stamps, jump_at: float | None = None, frozen_from: float = np.inf) -> list:
    """A perfect world (latent = position) whose tool goes round; the block, a third coordinate, jumps."""
    out = []
    for stamp in stamps:
        tool = np.array([0.6 + 0.1 * np.cos(1.5 * stamp), 0.1 * np.sin(1.5 * stamp)])
        seen = tool if stamp < frozen_from else np.array([0.6 + 0.1 * np.cos(1.5 * frozen_from), 0.1 * np.sin(1.5 * frozen_from)])
        latent = (seen + (0.08 if jump_at is not None and stamp >= jump_at else 0.0)).astype(np.float32)
        out.append(monitor.see(float(stamp), latent, tool / 0.04))
    return out


PLAIN = SurpriseCalibration(scale=(1e-3, 4e-3, 9e-3), threshold=0.3)


def test_a_jump_and_a_frozen_camera_are_surprises_and_pass_a_dropped_frame_is_none():
    stamps = 100.0 + np.arange(120) / 20
    ordinary = driven(SurpriseMonitor(LinearWorld(), PLAIN, 0.2), stamps)
    assert max(r.score for r in ordinary if r) < 0.02
    assert sum(r is not None for r in ordinary) >= len(stamps) - 12
    jumped = driven(SurpriseMonitor(LinearWorld(), PLAIN, 0.2), stamps, jump_at=102.99)
    flags = {round(r.stamp_s - 103.0, 2): r.surprised for r in jumped if r}
    assert not any(flag for when, flag in flags.items() if when < 0)
    assert flags[0.0] and flags[0.4], "at once, and for as long as the window sees it"
    assert not flags[1.8], "it passes: what jumped has been seen there since"
    frozen = driven(SurpriseMonitor(LinearWorld(), PLAIN, 0.2), stamps, frozen_from=102.99)
    assert all(r.surprised for r in frozen if r and r.stamp_s > 103.45) and not any(r.surprised for r in frozen if r and r.stamp_s <= 103.0)
    rng = np.random.default_rng(0)
    patchy = driven(SurpriseMonitor(LinearWorld(), PLAIN, 0.2), [s for s in stamps if rng.random() > 0.3])
    assert max(r.score for r in patchy if r) < 0.05


def test_a_new_history_begins_after_a_restart_a_pause_and_a_clock_that_was_set_back():
    monitor = SurpriseMonitor(LinearWorld(), PLAIN, 0.2)
    driven(monitor, np.arange(0.0, 2.0, 0.05))
    assert monitor.see(1.0, np.zeros(2, np.float32), np.zeros(2)) is None and len(monitor) > 1, "a late frame is left out"
    elsewhere = np.full(2, 5.0, np.float32)
    for stamp in (3.0, 1.0):
        assert monitor.see(stamp, elsewhere, np.zeros(2)) is None and len(monitor) == 1
    again = driven(monitor, np.arange(10.0, 11.0, 0.05))
    assert again[:11] == [None] * 11 and max(r.score for r in again if r) < 0.05
    monitor.restart()
    assert len(monitor) == 0
    with pytest.raises(SurpriseError, match="finite"):
        monitor.see(20.0, np.array([np.nan, 0], np.float32), np.zeros(2))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 100.0))
def test_a_score_lies_between_nothing_and_two_whatever_the_unit_of_latents(seed, unit):
    rng = np.random.default_rng(seed)
    now, predicted, before = rng.normal(size=(3, 3, 3, 5)) * rng.choice([1e-3, 1.0, 1e3], size=(3, 1, 1, 1))
    errors, changes = ((now - predicted) ** 2).sum(-1), ((now - before) ** 2).sum(-1) + ((predicted - before) ** 2).sum(-1)
    one = float(score(errors, changes, CALIBRATION))
    assert 0.0 <= one < 2.0
    scaled = SurpriseCalibration(scale=tuple(unit**2 * m for m in CALIBRATION.scale))
    assert score(unit**2 * errors, unit**2 * changes, scaled) == pytest.approx(one, rel=1e-6)


def ordinary_terms(count: int, seed: int = 0) -> list[Terms]:
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        changes = rng.gamma(2.0, [1.0, 2.0, 3.0], (30, 3))
        errors = 0.1 * changes * rng.gamma(1.0, 1.0, (30, 3))
        errors[0] = changes[0] = np.nan
        out.append(Terms(errors, changes))
    return out


def test_the_threshold_keeps_both_promises_on_fresh_runs():
    """Split conformal prediction holds on average over calibrations: so that is what is tested."""
    rates, frames = [], []
    for seed in range(20):
        calibration = calibrate(ordinary_terms(60, 2 * seed), frame_rate=0.01, run_rate=0.1)
        assert calibration.threshold is not None
        fresh = [run_scores(terms, calibration) for terms in ordinary_terms(60, 2 * seed + 1)]
        rates.append(np.mean([np.nanmax(values) > calibration.threshold for values in fresh]))
        frames.append(np.mean(np.concatenate(fresh)[~np.isnan(np.concatenate(fresh))] > calibration.threshold))
    assert 0.02 < np.mean(rates) < 0.13 and np.mean(frames) < 0.012
    runs = ordinary_terms(40)
    every = np.concatenate([terms.changes for terms in runs])
    strict, loose = calibrate(runs, 0.01, 0.05), calibrate(runs, 0.2, 0.5)
    assert strict.scale == pytest.approx(np.nanmedian(every, axis=0))
    highest = sorted(np.nanmax(run_scores(terms, strict)) for terms in runs)
    assert strict.threshold == pytest.approx(highest[38]), "of 40 runs the 39th: (40 + 1) x .95, rounded up"
    assert loose.threshold < strict.threshold


def test_what_cannot_be_calibrated_says_so():
    with pytest.raises(SurpriseError, match=r"10 ordinary runs cannot promise.*19 can"):
        calibrate(ordinary_terms(10))
    with pytest.raises(SurpriseError, match="shorter"):
        calibrate([Terms(np.ones((3, 3)), np.ones((3, 3)))] * 40)
    with pytest.raises(SurpriseError, match="positive"):
        calibrate([Terms(np.ones((9, 3)), np.zeros((9, 3)))] * 40)


def test_a_calibration_travels_in_a_manifest_and_only_with_the_graphs_that_it_was_made_for():
    content = json.loads(json.dumps({"calibration": CALIBRATION.to_json(), "graphs": {"encoder.onnx": "e", "rollout.onnx": "r"}}))
    assert carried_calibration(content, {"encoder.onnx": "e", "rollout.onnx": "r", "heads.onnx": "h"}, 8) == (CALIBRATION, "")
    for carried, sha256, reason in (
        ({}, {}, "not calibrated"),
        (content, {"encoder.onnx": "e", "rollout.onnx": "other"}, "another encoder or predictor"),
        ({**content, "graphs": {}}, {}, "another encoder or predictor"),
        ({**content, "calibration": {"scale": [1]}}, {"encoder.onnx": "e", "rollout.onnx": "r"}, "not a surprise calibration"),
        ({**content, "calibration": {**CALIBRATION.to_json(), "floor": 0}}, {"encoder.onnx": "e", "rollout.onnx": "r"}, "positive"),
    ):
        calibration, why_not = carried_calibration(carried, sha256, 8)
        assert reason in why_not and calibration.threshold is None and calibration.scale == (8.0, 8.0, 8.0)


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    events, runs = rng.normal(1.0, 1.0, 30).round(1), [rng.normal(0.0, 1.0, int(n)).round(1) for n in rng.integers(0, 20, 25)]
    pairs = [(e > o) + 0.5 * (e == o) for e in events for run in runs for o in run]
    area, low, high = auroc95(events, runs, np.random.default_rng(1))
    assert area == pytest.approx(np.mean(pairs))
    # DeLong et al. (1988), for frames that are independent, each a run of its own.
    frames = np.concatenate(runs)
    matrix = np.array(pairs).reshape(len(events), len(frames))
    deviation = np.sqrt(matrix.mean(axis=1).var(ddof=1) / len(events) + matrix.mean(axis=0).var(ddof=1) / len(frames))
    area, low, high = auroc95(events, [np.array([frame]) for frame in frames], np.random.default_rng(1))
    assert low < area < high and high - low == pytest.approx(2 * 1.96 * deviation, rel=0.1)
    # Frames of a run that are all alike tell no more than one of them.
    assert np.ptp(auroc95(events, [np.full(20, frame) for frame in frames], np.random.default_rng(1))[1:]) == pytest.approx(high - low, rel=0.01)
    assert auroc95(np.ones(3), [np.zeros(4)], rng)[0] == 1.0
    with pytest.raises(ValueError, match="needs"):
        auroc95(np.ones(3), [np.zeros(0)], rng)
