"""Which part of a camera's picture the model sees, and what that does to the camera's calibration. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

U8 = NDArray[np.uint8]


class FramingError(ValueError):
    """A crop that does not fit, with the reason in one line."""


@dataclass(frozen=True)
class Crop:
    """A part of a picture, in pixels, from its upper left corner."""

    x: int
    y: int
    width: int
    height: int


def read_crop(text: str) -> Crop | None:
    """``[x, y, width, height]`` in YAML; None for an empty text.

    Raises:
        FramingError: anything else.
    """
    if not text.strip():
        return None
    try:
        numbers = yaml.safe_load(text)
    except yaml.YAMLError:
        numbers = None
    if not isinstance(numbers, list) or len(numbers) != 4 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise FramingError(f"crop is {text}, must be [x, y, width, height] in pixels")
    crop = Crop(*numbers)
    if not crop.width or not crop.height:
        raise FramingError(f"crop is {text}: nothing is left of the picture")
    return crop


def middle(width: int, height: int, aspect: float) -> Crop:
    """The largest part with ``aspect`` (width by height) in the middle of a picture of ``width`` x ``height`` pixels."""
    across, down = max(1, min(width, round(height * aspect))), max(1, min(height, round(width / aspect)))
    return Crop((width - across) // 2, (height - down) // 2, across, down)


def frame(pixels: U8, crop: Crop, width: int, height: int, into: U8 | None = None) -> U8:
    """The part ``crop`` of ``pixels (H, W, C)`` scaled to ``(height, width, C)``; every pixel is the mean of those it stands for.

    ``into (height, width, C)``: where to put it; it is what is returned then. The part is read where it lies, without a copy.

    Raises:
        FramingError: the part does not lie in the picture.
    """
    rows, columns, channels = pixels.shape
    if crop.x + crop.width > columns or crop.y + crop.height > rows:
        raise FramingError(f"crop {crop.x}, {crop.y}, {crop.width} x {crop.height} does not lie in a picture of {columns} x {rows}")
    part = pixels[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
    framed = np.empty((height, width, channels), np.uint8) if into is None else into
    # INTER_AREA averages when it makes smaller and interpolates when it makes larger.
    scaled = cv2.resize(part, (width, height), dst=framed, interpolation=cv2.INTER_AREA)
    if not np.shares_memory(scaled, framed):
        framed[...] = scaled.reshape(framed.shape)
    return framed


class Framing:
    """Frames one picture after another to ``width`` x ``height``: their part ``crop``, or the largest of that shape in their middle."""

    def __init__(self, width: int, height: int, crop: Crop | None = None) -> None:
        self.width, self.height = width, height
        self._crop = crop

    def part(self, width: int, height: int) -> Crop:
        """What is seen of a picture of ``width`` x ``height`` pixels."""
        return self._crop or middle(width, height, self.width / self.height)

    def __call__(self, pixels: U8) -> U8:
        """``pixels (H, W, C)`` framed, ``(height, width, C)``; a picture of that size already is taken as it is, unless a part of it was asked for.

        Raises:
            FramingError: the part does not lie in the picture.
        """
        rows, columns, _ = pixels.shape
        if (columns, rows) == (self.width, self.height) and self._crop is None:
            return pixels
        return frame(pixels, self.part(columns, rows), self.width, self.height)


def framed_intrinsics(k: NDArray[np.float64], crop: Crop, width: int, height: int) -> NDArray[np.float64]:
    """The camera matrix ``(3, 3)``, or the projection ``(3, 4)``, of the framed picture, from that of the whole, ``k``.

    Pixel centres lie at whole numbers, so half a pixel is added before scaling and taken off after it.
    """
    across, down = width / crop.width, height / crop.height
    move = np.array([[across, 0.0, (0.5 - crop.x) * across - 0.5], [0.0, down, (0.5 - crop.y) * down - 0.5], [0.0, 0.0, 1.0]])
    product: NDArray[np.float64] = move @ k
    return product
