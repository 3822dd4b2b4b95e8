"""Pictures and latent vectors as ``sensor_msgs/Image``, and back."""

from __future__ import annotations

import array

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ros_bridge.encodings import ImageError, colour_pixels, image_rows

__all__ = ["LATENT_PREFIX", "ImageError", "array_to_image", "image_to_array", "image_to_latent", "latent_to_image"]

LATENT_PREFIX = "32FC"


def image_to_array(msg: Image) -> NDArray[np.uint8]:
    """The pixels ``(H, W, 3) uint8``, red first, of a picture in any colour encoding (``ros_bridge.encodings.COLOUR_ENCODINGS``).

    The array is a read-only view of the message when that is rgb8 and its rows are not padded; copy it before changing it.

    Raises:
        ImageError: another encoding, an empty or big-endian message, or width, height, step and the size of the data disagree.
    """
    return colour_pixels(msg)


def array_to_image(pixels: NDArray[np.uint8], header: Header) -> Image:
    """An ``rgb8`` message of ``pixels (H, W, 3) uint8``, stamped with ``header``.

    Raises:
        ImageError: another shape or type.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0 or pixels.dtype != np.uint8:
        raise ImageError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (H, W, 3)")
    height, width, _ = pixels.shape
    return _message(header, height, width, "rgb8", 3 * width, pixels)


def image_to_latent(msg: Image, size: int | None = None) -> NDArray[np.float32]:
    """The latent vector ``(n,) float32`` of a 1 x 1 message with encoding ``32FC<n>``; ``size`` is the ``n`` that the reader needs.

    Raises:
        ImageError: another encoding, shape or size, inconsistent lengths, or a value that is not finite.
    """
    digits = msg.encoding.removeprefix(LATENT_PREFIX)
    if not msg.encoding.startswith(LATENT_PREFIX) or not (digits.isascii() and digits.isdigit()) or int(digits) == 0:
        raise ImageError(f"latent encoding is '{msg.encoding}', expected '{LATENT_PREFIX}<n>'")
    count = int(digits)
    if size is not None and count != size:
        raise ImageError(f"latent has {count} values, expected {size}")
    if (msg.height, msg.width) != (1, 1):
        raise ImageError(f"latent is {msg.width} x {msg.height} pixels, expected 1 x 1")
    latent: NDArray[np.float32] = np.ascontiguousarray(image_rows(msg, bytes_per_pixel=4 * count)).view("<f4")[0].astype(np.float32)
    if not np.isfinite(latent).all():
        raise ImageError("latent holds a value that is not finite")
    return latent


def latent_to_image(latent: NDArray[np.float32], header: Header) -> Image:
    """A 1 x 1 message with encoding ``32FC<n>`` of ``latent (n,)``, stamped with ``header``: the stamp of the frame that it was made from.

    Raises:
        ImageError: not a non-empty vector of finite numbers.
    """
    values = np.ascontiguousarray(latent, dtype="<f4")
    if values.ndim != 1 or values.size == 0:
        raise ImageError(f"latent has shape {latent.shape}, expected (n,)")
    if not np.isfinite(values).all():
        raise ImageError("latent holds a value that is not finite")
    return _message(header, 1, 1, f"{LATENT_PREFIX}{values.size}", values.nbytes, values)


def _message(header: Header, height: int, width: int, encoding: str, step: int, values: NDArray[np.generic]) -> Image:
    msg = Image(header=header, height=height, width=width, encoding=encoding, step=step, is_bigendian=0)
    # An array.array is taken over whole; a list or plain bytes would be checked element by element, in Python.
    msg.data = array.array("B", values.tobytes())
    return msg
