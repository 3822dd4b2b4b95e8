"""Surprise: how much of what changed was not foreseen. A prediction error that jumps means that something impossible happened.

A frame's latent z_t is compared with what the predictor made, k = 1, 2, 3 steps before, of the history and of the actions since: p_k. With

    e_k = |z_t - p_k|^2                             what was not foreseen,
    c_k = |z_t - z_{t-k}|^2 + |p_k - z_{t-k}|^2     what was seen to change, and what was foreseen to change,

the score of a frame is, summed over k and over the last w = 3 steps (each a model step apart),

    s_t = sum e_k / m_k  /  sum (c_k / m_k + f),    m_k the median of c_k on ordinary runs, f = 0.05.

It lies in [0, 2): 0 is foreseen; 1 is what a prediction gets that has nothing to do with the outcome. Violation of expectation is usually measured by
the bare error (Garrido et al. 2025, arXiv 2502.11831). That is large wherever much happens, as in ordinary contact, and small where a frozen camera
shows nothing. Relative to the change, a scene that should move but stays counts in full. ``f`` keeps an arm at rest quiet.

NumPy only, on the ``WorldModel`` protocol.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from world_model.protocol import F32, Context, WorldModel

F64 = NDArray[np.float64]
# In model steps: without a frame for longer than this, nobody knows what happened in between.
_LONGEST_GAP = 1.2
# In model steps: a history that is this much too short is long enough.
_ALMOST = 0.3
# A clock that is set back this far, s, begins a new history; frames that are merely late are left out.
_SET_BACK_S = 1.0


class SurpriseError(ValueError):
    """A calibration that cannot be used or made, with the reason in one line."""


@dataclass(frozen=True)
class SurpriseCalibration:
    """The statistic's constants: ``scale`` m_k, ``horizons`` k and ``window`` w in steps, ``floor`` f. Without a ``threshold`` nothing is flagged."""

    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    threshold: float | None = None
    horizons: tuple[int, ...] = (1, 2, 3)
    window: int = 3
    floor: float = 0.05

    def __post_init__(self) -> None:
        numbers = (*self.scale, self.floor, 1.0 if self.threshold is None else self.threshold)
        if not self.horizons or len(self.scale) != len(self.horizons) or min(*self.horizons, self.window) < 1:
            raise SurpriseError("a surprise calibration needs a window, horizons of at least one step, and a scale for each")
        if not all(math.isfinite(number) and number > 0 for number in numbers):
            raise SurpriseError("a surprise calibration needs finite, positive numbers")

    def to_json(self) -> dict[str, Any]:
        """Plain numbers for a manifest."""
        return asdict(self)

    @staticmethod
    def from_json(content: Any) -> SurpriseCalibration:
        """Read back what ``to_json`` wrote.

        Raises:
            SurpriseError: a value is missing or makes no sense.
        """
        try:
            threshold = content["threshold"]
            return SurpriseCalibration(
                scale=tuple(float(value) for value in content["scale"]),
                threshold=None if threshold is None else float(threshold),
                horizons=tuple(int(value) for value in content["horizons"]),
                window=int(content["window"]),
                floor=float(content["floor"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SurpriseError(f"not a surprise calibration: {error}; run `latent-mpc surprise --record` again") from error


def carried_calibration(carried: Mapping[str, Any], sha256: Mapping[str, str], latent_dim: int) -> tuple[SurpriseCalibration, str]:
    """The calibration in ``surprise`` of a bundle's manifest whose graphs have the hashes ``sha256``, and why there is none, empty if there is.

    Without one scores are raw, as if latents had unit variance, and no threshold flags them.
    """
    raw = SurpriseCalibration(scale=(float(latent_dim),) * 3)
    if not carried:
        return raw, "not calibrated: `latent-mpc surprise --record` does that"
    if any(sha256.get(name) != value for name, value in dict(carried.get("graphs") or {"": ""}).items()):
        return raw, "calibrated for another encoder or predictor: run `latent-mpc surprise --record` again"
    try:
        return SurpriseCalibration.from_json(carried.get("calibration")), ""
    except SurpriseError as error:
        return raw, str(error)


@dataclass(frozen=True)
class Terms:
    """e_k and c_k of the frames of one run: ``errors (T, K)``, ``changes (T, K)`` float64, NaN where the run began less than k steps before.

    ``per_step``: frames of a model step; each is compared with those whole steps before it.
    """

    errors: F64
    changes: F64
    per_step: int = 1


def run_terms(model: WorldModel, latents: F32, actions: F32, horizons: tuple[int, ...], per_step: int = 1) -> Terms:
    """Terms of a whole run: ``latents (T, D)``, ``per_step`` to a step, and ``actions (T - per_step, A)``, each from its frame to one a step later.

    Before its first frame the scene is taken to have stood still, as in training.
    """
    if per_step > 1:
        phases = [run_terms(model, latents[phase::per_step], actions[phase::per_step], horizons) for phase in range(per_step)]
        errors, changes = np.empty((2, len(latents), len(horizons)))
        for phase, terms in enumerate(phases):
            errors[phase::per_step], changes[phase::per_step] = terms.errors, terms.changes
        return Terms(errors, changes, per_step)
    count, past, most = len(latents), model.history - 1, max(horizons)
    padded = np.concatenate([np.repeat(latents[:1], past, axis=0), latents]).astype(np.float32)
    still = np.zeros((past, actions.shape[1]), np.float32)
    driven = np.concatenate([still, actions, np.zeros((most, actions.shape[1]), np.float32)]).astype(np.float32)
    begins = np.arange(count)
    windows = begins[:, None] + np.arange(past + 1)
    context = Context(padded[windows], driven[windows[:, :-1]])
    imagined = model.rollout(context, driven[begins[:, None] + past + np.arange(most)])
    errors, changes = np.full((2, count, len(horizons)), np.nan)
    for column, k in enumerate(horizons):
        errors[k:, column], changes[k:, column] = _compared(latents[k:], imagined[: count - k, k - 1], latents[: count - k])
    return Terms(errors, changes)


def _compared(now: F32, predicted: F32, before: F32) -> tuple[F64, F64]:
    seen, made, from_ = (array.astype(np.float64) for array in (now, predicted, before))
    error: F64 = ((seen - made) ** 2).sum(-1)
    change: F64 = ((seen - from_) ** 2).sum(-1) + ((made - from_) ** 2).sum(-1)
    return error, change


def score(errors: F64, changes: F64, calibration: SurpriseCalibration) -> F64:
    """s_t ``(...)`` from the terms ``(..., w, K)`` of the last w steps; NaN are left out."""
    scale = np.array(calibration.scale)
    scores: F64 = np.nansum(errors / scale, axis=(-2, -1)) / np.nansum(changes / scale + calibration.floor, axis=(-2, -1))
    return scores


def run_scores(terms: Terms, calibration: SurpriseCalibration) -> F64:
    """Scores ``(T,)`` of a run's frames; NaN for those of the first w steps, which have no full window behind them."""
    if terms.per_step > 1:
        every = np.empty(len(terms.errors))
        for phase in (slice(first, None, terms.per_step) for first in range(terms.per_step)):
            every[phase] = run_scores(Terms(terms.errors[phase], terms.changes[phase]), calibration)
        return every
    w = calibration.window
    scores = np.full(len(terms.errors), np.nan)
    if len(scores) > w:
        recent = np.arange(1, len(scores) - w + 1)[:, None] + np.arange(w)
        scores[w:] = score(terms.errors[recent], terms.changes[recent], calibration)
    return scores


def calibrate(runs: list[Terms], frame_rate: float = 0.005, run_rate: float = 0.05) -> SurpriseCalibration:
    """Scale and threshold from ordinary runs.

    The threshold is the higher of two: the ``1 - frame_rate`` quantile of all frames, and that of split conformal prediction over whole runs (Vovk et
    al. 2005), by which at most a share ``run_rate`` of ordinary runs like these is expected to be flagged at any of its frames.

    Raises:
        SurpriseError: there are too few runs for that share, a run is too short, or a model that predicts no change of anything.
    """
    draft = SurpriseCalibration()
    changes = np.concatenate([terms.changes for terms in runs]) if runs else np.empty((0, len(draft.horizons)))
    rank = math.ceil((len(runs) + 1) * (1.0 - run_rate))
    if rank > len(runs):
        raise SurpriseError(f"{len(runs)} ordinary runs cannot promise a false alarm in {run_rate:g} of runs; {math.ceil(1 / run_rate) - 1} can")
    medians = np.nanmedian(changes, axis=0)
    scaled = SurpriseCalibration(scale=tuple(float(value) for value in medians))
    scores = [run_scores(terms, scaled) for terms in runs]
    if not all(np.isfinite(values).any() for values in scores):
        raise SurpriseError(f"an ordinary run is shorter than {scaled.window + 1} frames")
    highest = np.sort([np.nanmax(values) for values in scores])
    every = np.concatenate(scores)
    threshold = max(float(highest[rank - 1]), float(np.nanquantile(every, 1.0 - frame_rate, method="higher")))
    return SurpriseCalibration(scale=scaled.scale, threshold=threshold)


@dataclass(frozen=True)
class Reading:
    """The score of the frame at ``stamp_s``, and whether it is above the threshold."""

    stamp_s: float
    score: float
    threshold: float | None

    @property
    def surprised(self) -> bool:
        """Whether something happened that should not have."""
        return self.threshold is not None and self.score > self.threshold

    def numbers(self) -> tuple[float, float, float, float]:
        """Stamp in s, score, threshold (NaN without one), and 1 for a surprise or 0."""
        return self.stamp_s, self.score, math.nan if self.threshold is None else self.threshold, float(self.surprised)


@dataclass(frozen=True)
class _Frame:
    stamp_s: float
    latent: F32
    position: F64
    errors: F64 = field(default_factory=lambda: np.empty(0))
    changes: F64 = field(default_factory=lambda: np.empty(0))


class SurpriseMonitor:
    """Scores every frame as it comes, at any camera rate: each is compared with the frames one, two, three model steps before it.

    Args:
        model: encodes and imagines.
        calibration: constants of the statistic.
        period_s: what a model step takes.
    """

    def __init__(self, model: WorldModel, calibration: SurpriseCalibration, period_s: float) -> None:
        self.calibration = calibration
        self._model = model
        self._period_s = period_s
        self._reach = max(calibration.horizons) + model.history - 1
        self._frames: deque[_Frame] = deque()

    def restart(self) -> None:
        """Forget everything: what comes next has nothing to do with what was. The scene is taken to stand still until the next frame."""
        self._frames.clear()

    def __len__(self) -> int:
        return len(self._frames)

    def see(self, stamp_s: float, latent: F32, position: F64) -> Reading | None:
        """Take in a frame's ``latent (D,)`` and the commanded ``position (A,)`` at its time *in units of actions*: two of them differ by the action.

        Returns:
            Its score, or None while fewer than w model steps have passed since the last restart, and for a frame that is not newer than the last.

        Raises:
            SurpriseError: the latent is not finite.
        """
        if not np.isfinite(latent).all():
            raise SurpriseError("latent is not finite")
        if self._frames:
            gap = stamp_s - self._frames[-1].stamp_s
            if -_SET_BACK_S < gap <= 0:
                return None
            if not 0 < gap <= _LONGEST_GAP * self._period_s:
                self.restart()
        frame = self._compare(_Frame(stamp_s, latent, np.array(position, dtype=np.float64)))
        self._frames.append(frame)
        oldest = stamp_s - (max(self._reach, self.calibration.window) + 1) * self._period_s
        while self._frames[0].stamp_s < oldest:
            self._frames.popleft()
        window = [self._before(stamp_s, steps) for steps in range(self.calibration.window)]
        known = [seen for seen in window if seen is not None and np.isfinite(seen.errors[0])]
        if len(known) < self.calibration.window:
            return None
        value = float(score(np.stack([seen.errors for seen in known]), np.stack([seen.changes for seen in known]), self.calibration))
        return Reading(stamp_s, value, self.calibration.threshold)

    def _before(self, stamp_s: float, steps: int) -> _Frame | None:
        """The frame nearest to ``steps`` model steps before ``stamp_s``; None if nothing was seen yet then."""
        due = stamp_s - steps * self._period_s
        if not self._frames or due < self._frames[0].stamp_s - _ALMOST * self._period_s:
            return None
        nearest = self._frames[-1]
        for frame in reversed(self._frames):  # stamps only grow: where it gets worse, it stays worse
            if abs(frame.stamp_s - due) > abs(nearest.stamp_s - due):
                break
            nearest = frame
        return nearest

    def _compare(self, frame: _Frame) -> _Frame:
        """``frame`` with its terms: one rollout for all horizons."""
        horizons, past = self.calibration.horizons, self._model.history - 1
        errors, changes = np.full((2, len(horizons)), np.nan)
        chain = self._chain(frame)
        possible = [column for column, k in enumerate(horizons) if k < len(chain)]
        if possible:
            chain += [chain[-1]] * (self._reach + 1 - len(chain))  # it stood still before
            latents = np.stack([seen.latent for seen in chain])[::-1]
            positions = np.stack([seen.position for seen in chain])[::-1]
            actions = np.clip(np.diff(positions, axis=0), -1.0, 1.0).astype(np.float32)
            ends = [self._reach - horizons[column] for column in possible]
            driven = np.concatenate([actions, np.zeros((max(horizons), actions.shape[1]), np.float32)])
            context = Context(
                np.stack([latents[end - past : end + 1] for end in ends]).astype(np.float32), np.stack([actions[end - past : end] for end in ends])
            )
            imagined = self._model.rollout(context, np.stack([driven[end : end + max(horizons)] for end in ends]))
            for row, (column, end) in enumerate(zip(possible, ends, strict=True)):
                errors[column], changes[column] = _compared(frame.latent, imagined[row, horizons[column] - 1], latents[end])
        return _Frame(frame.stamp_s, frame.latent, frame.position, errors, changes)

    def _chain(self, frame: _Frame) -> list[_Frame]:
        """The frame and those one, two, ... model steps before it, newest first, as far as they were seen."""
        chain = [frame]
        for steps in range(1, self._reach + 1):
            seen = self._before(frame.stamp_s, steps)
            if seen is None:
                break
            chain.append(seen)
        return chain
