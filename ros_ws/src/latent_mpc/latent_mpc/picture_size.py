"""Pictures of a camera in the size that a model takes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


class PictureSizeError(ValueError):
    """Pictures that are smaller than what is to be made of them."""


def fitted(seen: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """``seen (H, W, 3)`` cut to the shape of ``size`` = ``(h, w)`` around its middle and made smaller by area.

    Raises:
        PictureSizeError: it would have to be made larger: what the camera did not see cannot be made up.
    """
    (height, width), (h, w) = seen.shape[:2], size
    if height < h or width < w:
        raise PictureSizeError(f"pictures are {width} x {height} pixels, fewer than the {w} x {h} that are asked for")
    if (height, width) == (h, w):
        return seen
    share = min(height / h, width / w)
    rows, columns = round(h * share), round(w * share)
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = seen[top : top + rows, left : left + columns]
    return np.ascontiguousarray(cv2.resize(middle, (w, h), interpolation=cv2.INTER_AREA), dtype=np.uint8)
