"""A fixed pinhole camera in the simulated world."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pybullet
from numpy.typing import NDArray

_NEAR_M, _FAR_M = 0.05, 3.0


@dataclass(frozen=True)
class Light:
    """One distant light: where it comes from, its colour, and how much of it surfaces return (TinyRenderer's coefficients)."""

    direction: tuple[float, float, float] = (0.3, 0.2, 1.0)
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ambient: float = 0.6
    diffuse: float = 0.35
    specular: float = 0.05


LIGHT = Light()


@dataclass(frozen=True)
class Camera:
    """Where a camera stands (``eye``), what it looks at (``target``), in m, its vertical field of view in degrees and its picture size in pixels."""

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    fov_deg: float
    width: int = 64
    height: int = 64
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)

    def moved(self, shift_m: tuple[float, float, float], turn_rad: tuple[float, float, float]) -> Camera:
        """The camera carried along ``shift_m`` and turned where it stands by the rotation vector ``turn_rad``, both in the base frame."""
        angle = float(np.linalg.norm(turn_rad))
        axis = np.asarray(turn_rad) / angle if angle else np.zeros(3)

        def turned(vector: NDArray[np.floating]) -> NDArray[np.float64]:  # Rodrigues
            result: NDArray[np.float64] = (
                vector * np.cos(angle) + np.cross(axis, vector) * np.sin(angle) + axis * (axis @ vector) * (1 - np.cos(angle))
            )
            return result

        eye = np.add(self.eye, shift_m)
        target, up = eye + turned(np.subtract(self.target, self.eye)), turned(np.asarray(self.up))
        return replace(self, eye=tuple(eye.tolist()), target=tuple(target.tolist()), up=tuple(up.tolist()))

    def resized(self, width: int, height: int) -> Camera:
        """The same view in another picture size."""
        return replace(self, width=width, height=height)

    def focal_px(self) -> float:
        """Focal length in pixels; pixels are square."""
        return self.height / 2 / float(np.tan(np.radians(self.fov_deg) / 2))

    def intrinsics(self) -> NDArray[np.float64]:
        """``K (3, 3)`` of sensor_msgs/CameraInfo, principal point in the middle."""
        focal = self.focal_px()
        return np.array([[focal, 0.0, self.width / 2], [0.0, focal, self.height / 2], [0.0, 0.0, 1.0]])

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels ``(N, 2)`` (x right, y down) of points ``(N, 3)`` in m in the base frame."""
        forward = np.subtract(self.target, self.eye)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, self.up)
        right = right / np.linalg.norm(right)
        down = np.cross(forward, right)
        in_camera = (np.asarray(points) - np.asarray(self.eye)) @ np.stack([right, down, forward], axis=1)
        pixels: NDArray[np.float64] = in_camera[:, :2] / in_camera[:, 2:] * self.focal_px() + np.array([self.width / 2, self.height / 2])
        return pixels

    def render(self, client: Any, light: Light = LIGHT) -> NDArray[np.uint8]:
        """``(height, width, 3) uint8`` RGB picture by TinyRenderer: no shadow, no segmentation, runs without a display."""
        rgba = self._images(client, light)[2]
        return np.ascontiguousarray(np.asarray(rgba, np.uint8).reshape(self.height, self.width, 4)[..., :3])

    def render_depth(self, client: Any) -> NDArray[np.float32]:
        """``(height, width) float32``: metres along the optical axis to what each pixel shows at the middle of its lower edge; at most 3 m."""
        buffer = np.asarray(self._images(client, LIGHT)[3], np.float64).reshape(self.height, self.width)
        # A depth buffer holds 1 / depth, stretched so that it is 0 at the near plane and 1 at the far one.
        return (_NEAR_M * _FAR_M / (_FAR_M - (_FAR_M - _NEAR_M) * buffer)).astype(np.float32)

    def _images(self, client: Any, light: Light) -> Any:
        view = client.computeViewMatrix(self.eye, self.target, self.up)
        projection = client.computeProjectionMatrixFOV(self.fov_deg, self.width / self.height, _NEAR_M, _FAR_M)
        return client.getCameraImage(
            self.width,
            self.height,
            view,
            projection,
            shadow=0,
            lightDirection=light.direction,
            lightColor=light.colour,
            lightAmbientCoeff=light.ambient,
            lightDiffuseCoeff=light.diffuse,
            lightSpecularCoeff=light.specular,
            flags=pybullet.ER_NO_SEGMENTATION_MASK,
            renderer=pybullet.ER_TINY_RENDERER,
        )


OVERVIEW = Camera(eye=(1.2, -1.2, 0.8), target=(0.4, 0.0, 0.28), fov_deg=38.0, width=320, height=240)
"""A view of the whole arm, for people."""
