"""What perception makes of pictures, without ROS: which it takes, and what the encoder and the witness see in them.

The node and the offline replay run this class, so that the same picture makes the same latent in both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from world_model.protocol import F32
from world_model.recent_joints import RecentJoints
from world_model.runtimes.opening import BundleModel

_WARM_UP_FRAMES = 5


class PictureError(ValueError):
    """A picture that the model cannot take, or makes nothing finite of, with the reason in one line."""


class Perception:
    """Encodes pictures. One that the model cannot take is refused; none is resized.

    A model with proprioception is told where the joints were when a camera frame was taken, and of a goal picture that it is unknown.
    """

    def __init__(self, model: BundleModel, joints_tolerance_s: float) -> None:
        """Run every graph a few times: the first runs allocate, and a goal must not wait for them."""
        self.model = model
        self.without_joints = 0
        self._joints = RecentJoints(model.manifest.proprioception, joints_tolerance_s) if model.manifest.proprioception else None
        for _ in range(_WARM_UP_FRAMES):
            blank = np.zeros((1, *model.manifest.frame), np.uint8)
            model.encode(blank)
            model.witness(blank)

    @property
    def asks_for_joints(self) -> bool:
        """Whether the model has proprioception."""
        return self._joints is not None

    @property
    def has_witness(self) -> bool:
        """Whether surprise looks with eyes of its own."""
        return bool(self.model.manifest.witness)

    def hear(self, position: NDArray[np.float64], stamp_ns: int) -> None:
        """The joints were at ``position (J,)`` rad, in the order of the manifest."""
        if self._joints is not None:
            self._joints.add(stamp_ns, position)

    def joints_at(self, stamp_ns: int) -> F32 | None:
        """Joint positions ``(1, J)`` when a frame was taken, NaN where nobody said, None for a model that does not ask."""
        if self._joints is None:
            return None
        position = self._joints.at(stamp_ns)
        self.without_joints += bool(np.isnan(position).any())
        return position[None]

    def encode(self, picture: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        """The latent ``(D,)`` of a ``picture (H, W, 3)``; ``joints (1, J)`` rad.

        Raises:
            PictureError: it is not of the model's size, or the model makes nothing finite of it.
        """
        self._check(picture)
        return _finite(self.model.encode(picture[None], joints)[0])

    def testify(self, picture: NDArray[np.uint8], joints: F32 | None = None) -> F32:
        """What the witness ``(D,)`` makes of a picture that the encoder took, for surprise.

        Raises:
            PictureError: as ``encode``.
        """
        self._check(picture)
        return _finite(self.model.witness(picture[None], joints)[0])

    def _check(self, picture: NDArray[np.uint8]) -> None:
        height, width, _ = self.model.manifest.frame
        if picture.shape != self.model.manifest.frame:
            raise PictureError(f"picture is {picture.shape[1]} x {picture.shape[0]} pixels, the model takes {width} x {height}")


def _finite(latent: F32) -> F32:
    if not np.isfinite(latent).all():
        raise PictureError("latent holds a value that is not finite")
    return latent
