"""What goes into the networks, checked and in their own types, whatever runs them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from world_model.bundle import Manifest
from world_model.protocol import F32


def encoder_feed(manifest: Manifest, frames: NDArray[np.uint8], joints: F32 | None) -> dict[str, NDArray[Any]]:
    """``frames (B, h, w, 3) uint8`` and, for a model with proprioception, ``joints (B, J) float32`` rad, NaN where they are unknown.

    Raises:
        ValueError: the frames have another shape or type than the bundle's, or there are not as many rows of joints, or not as many joints.
    """
    if frames.dtype != np.uint8 or frames.shape[1:] != manifest.frame:
        height, width, channels = manifest.frame
        raise ValueError(f"the model takes {width} x {height} x {channels} uint8 pictures, not {frames.shape[1:]} {frames.dtype}")
    feed: dict[str, NDArray[Any]] = {"frames": frames}
    if manifest.proprioception:
        shape = (len(frames), manifest.proprioception)
        feed["joints"] = np.full(shape, np.nan, np.float32) if joints is None else joints.astype(np.float32, copy=False)
        if feed["joints"].shape != shape:
            raise ValueError(f"the model takes joints of shape {shape} with these pictures, not {feed['joints'].shape}")
    return feed


def actor_steps(manifest: Manifest, steps_left: NDArray[np.floating]) -> F32:
    """``steps_left (N,)`` clipped to the range that the actor was trained on, float32."""
    least, most = manifest.actor_steps
    return np.clip(steps_left, least, most).astype(np.float32)
