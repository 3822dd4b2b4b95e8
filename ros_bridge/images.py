"""Pictures and latent vectors as ``sensor_msgs/Image``, and back."""

from __future__ import annotations

import array
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ros_bridge.encodings import ImageError, colour_pixels, image_rows

__all__ = ["LATENT_PREFIX", "ImageError", "ReusedImage", "array_to_image", "image_to_array", "image_to_latent", "latent_to_image"]

LATENT_PREFIX = "32FC"


def image_to_array(msg: Image, framed: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None) -> NDArray[np.uint8]:
    """The pixels ``(H, W, 3) uint8``, red first, of a picture in any colour encoding (``ros_bridge.encodings.COLOUR_ENCODINGS``).

    ``framed`` takes pixels ``(H, W, C)`` and returns those that are wanted (``ros_bridge.encodings.colour_pixels``). The array is a view of the
    message when that is rgb8; copy it before changing it.

    Raises:
        ImageError: another encoding, an empty or big-endian message, or width, height, step and the size of the data disagree.
    """
    return colour_pixels(msg) if framed is None else colour_pixels(msg, framed)


class ReusedImage:
    """One ``rgb8`` message of a fixed size that is filled and published again and again: nothing is allocated for a picture.

    ``pixels (H, W, 3) uint8`` are the message's own bytes. Publishing has copied them when it returns.
    """

    def __init__(self, height: int, width: int) -> None:
        self._message = _message(Header(), height, width, "rgb8", 3 * width, np.zeros((height, width, 3), np.uint8))
        # The setter would check and copy; what it holds is an array.array, whose memory can be written.
        self.pixels: NDArray[np.uint8] = np.frombuffer(memoryview(self._message.data), np.uint8).reshape(height, width, 3)

    def message(self, header: Header) -> Image:
        """The message with what ``pixels`` hold now, stamped with ``header``; it is the same one every time."""
        self._message.header = header
        return self._message


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
