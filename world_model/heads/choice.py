"""Which frames are worth a label: any, or those of which a first head is least sure (uncertainty sampling, Lewis and Gale 1994)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from world_model.heads.guardrail import fit_guardrail
from world_model.heads.labels import LabelError, Labels
from world_model.heads.split import draw_frames
from world_model.protocol import F32

CHOICES = ("uniform", "uncertain")
# The second half is drawn from this many times as many frames: the least sure ones alone resemble each other.
_POOL = 10


def choose_frames(
    labels: Labels, latents: F32, count: int, choice: str, rng: np.random.Generator, generator: torch.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """``count`` labelled frames of the teaching episodes ``latents (E, T+1, D)``: their rows and columns.

    ``uncertain``: half of them uniformly; a head learns from these, and the other half is drawn from the frames whose scores are nearest to 0. It is
    what a person does who labels twice.
    """
    rows, columns = draw_frames(labels.known, count if choice == "uniform" else max(1, count // 2), rng)
    if choice == "uniform" or len(rows) >= count:
        return rows, columns
    try:
        head = fit_guardrail(labels, torch.from_numpy(latents), latents[rows, columns], labels.values[rows, columns], generator)
    except LabelError:  # one kind only: nothing to be unsure between
        return draw_frames(labels.known, count, rng)
    with torch.inference_mode():
        scores = head(torch.from_numpy(latents.reshape(-1, latents.shape[-1])))[:, 0].numpy().reshape(latents.shape[:2])
    free = labels.known.copy()
    free[rows, columns] = False
    more = count - len(rows)
    unsure = np.argsort(np.where(free, np.abs(scores), np.inf), axis=None)[: min(_POOL * more, int(free.sum()))]
    picked = np.unravel_index(rng.permutation(unsure)[:more], free.shape)
    return np.concatenate([rows, picked[0]]), np.concatenate([columns, picked[1]])
