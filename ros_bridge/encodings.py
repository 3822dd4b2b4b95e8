"""Pictures in any encoding that cameras use, as arrays: from live messages and from recorded ones alike.

A message is anything with the fields of ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``, so nothing here needs ROS.
Encodings: sensor_msgs/image_encodings.hpp; compressed formats: image_transport_plugins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
_DEPTH_HEADER = 12


class ImageError(ValueError):
    """An image message that cannot be what it says it is, with the reason in one line."""


class ImageMessage(Protocol):
    """The fields of ``sensor_msgs/Image``."""

    height: Any
    width: Any
    encoding: Any
    is_bigendian: Any
    step: Any
    data: Any


class CompressedMessage(Protocol):
    """The fields of ``sensor_msgs/CompressedImage``."""

    format: Any
    data: Any


@dataclass(frozen=True)
class _Colour:
    """How one encoding lies in a message: rows of pixels of ``bytes_per_pixel``.

    ``pixels`` makes ``(H, W, C)`` of rows; ``ordered`` makes ``(H, W, 3)``, red first, of those. What only orders channels can wait until the
    picture is small; what mixes neighbouring pixels, as Bayer and YUV do, cannot, and is done by ``pixels``.
    """

    bytes_per_pixel: int
    pixels: Callable[[U8, int, int], U8]
    ordered: Callable[[U8], U8]


def _same(pixels: U8) -> U8:
    return pixels


def _converted(pixels: U8, code: str) -> U8:
    """What OpenCV makes of ``pixels`` by one of its conversions; it is loaded when there is one, and rgb8 needs none."""
    import cv2

    return np.asarray(cv2.cvtColor(pixels, getattr(cv2, code)), np.uint8)


def _from_yuv(code: str) -> _Colour:
    def convert(rows: U8, height: int, width: int) -> U8:
        if width % 2:
            raise ImageError(f"image is {width} pixels wide, two pixels share their colour in this encoding")
        return _converted(rows.reshape(height, width, 2), code)

    return _Colour(2, convert, _same)


def _from_bayer(code: str) -> _Colour:
    def convert(rows: U8, height: int, width: int) -> U8:
        if height < 2 or width < 2 or height % 2 or width % 2:
            raise ImageError(f"image is {width} x {height} pixels, a Bayer pattern needs pairs of rows and columns")
        return _converted(np.ascontiguousarray(rows), code)

    return _Colour(1, convert, _same)


def _channels(count: int, code: str | None) -> _Colour:
    """``count`` bytes a pixel; ``code``: how OpenCV calls what makes red, green and blue of them, None where they are that."""

    def convert(rows: U8, height: int, width: int) -> U8:
        return rows.reshape(height, width, count)

    return _Colour(count, convert, _same if code is None else lambda pixels: _converted(pixels, code))


# OpenCV names a Bayer pattern by the second row, second and third column; ROS by the first row's first two pixels, then the second's.
_COLOUR: dict[str, _Colour] = {
    "rgb8": _channels(3, None),
    "bgr8": _channels(3, "COLOR_BGR2RGB"),
    "rgba8": _channels(4, "COLOR_RGBA2RGB"),
    "bgra8": _channels(4, "COLOR_BGRA2RGB"),
    "mono8": _channels(1, "COLOR_GRAY2RGB"),
    "8UC1": _channels(1, "COLOR_GRAY2RGB"),
    "8UC3": _channels(3, "COLOR_BGR2RGB"),
    "8UC4": _channels(4, "COLOR_BGRA2RGB"),
    "bayer_rggb8": _from_bayer("COLOR_BayerBG2RGB"),
    "bayer_bggr8": _from_bayer("COLOR_BayerRG2RGB"),
    "bayer_gbrg8": _from_bayer("COLOR_BayerGR2RGB"),
    "bayer_grbg8": _from_bayer("COLOR_BayerGB2RGB"),
    "yuv422": _from_yuv("COLOR_YUV2RGB_UYVY"),
    "uyvy": _from_yuv("COLOR_YUV2RGB_UYVY"),
    "yuv422_yuy2": _from_yuv("COLOR_YUV2RGB_YUY2"),
    "yuyv": _from_yuv("COLOR_YUV2RGB_YUY2"),
}
_DEPTH = {"16UC1": 2, "mono16": 2, "32FC1": 4}
COLOUR_ENCODINGS = tuple(_COLOUR)
DEPTH_ENCODINGS = tuple(_DEPTH)


def picture_pixels(msg: Any) -> U8:
    """The pixels ``(H, W, 3) uint8``, red first, of an Image or a CompressedImage; see ``colour_pixels`` and ``compressed_pixels``.

    Raises:
        ImageError: it is neither, or cannot be decoded.
    """
    if hasattr(msg, "format"):
        return compressed_pixels(msg)
    if not hasattr(msg, "encoding"):
        raise ImageError("a message of this type holds no picture: expected sensor_msgs/Image or CompressedImage")
    return colour_pixels(msg)


def colour_pixels(msg: ImageMessage, framed: Callable[[U8], U8] = _same) -> U8:
    """The pixels ``(H, W, 3) uint8``, red first, of a picture in any of ``COLOUR_ENCODINGS``.

    ``framed`` takes the pixels ``(H, W, C)`` as they lie in the message and returns those that are wanted, fewer as a rule: their colours are put
    in order afterwards, where that is the same. The array is a view of the message when there is nothing to put in order.

    Raises:
        ImageError: another encoding, an empty or big-endian message, or width, height, step and the size of the data disagree.
    """
    if msg.encoding not in _COLOUR:
        kind = "a depth image" if msg.encoding in _DEPTH else "none of the colour encodings"
        raise ImageError(f"image encoding is '{msg.encoding}', {kind}; expected one of: {', '.join(COLOUR_ENCODINGS)}")
    colour = _COLOUR[msg.encoding]
    return colour.ordered(framed(colour.pixels(image_rows(msg, colour.bytes_per_pixel), int(msg.height), int(msg.width))))


def depth_metres(msg: ImageMessage) -> NDArray[np.float32]:
    """Depth ``(H, W) float32, m`` of a 16UC1 (mm) or 32FC1 (m) image (REP 118); NaN where nothing was measured.

    Raises:
        ImageError: another encoding, an empty or big-endian message, or width, height, step and the size of the data disagree.
    """
    if msg.encoding not in _DEPTH:
        raise ImageError(f"image encoding is '{msg.encoding}', expected one of: {', '.join(DEPTH_ENCODINGS)}")
    rows = np.ascontiguousarray(image_rows(msg, _DEPTH[msg.encoding]))
    if msg.encoding == "32FC1":
        metres = rows.view("<f4").astype(np.float32)
        return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(np.nan))
    return _from_millimetres(rows.view("<u2"))


def compressed_pixels(msg: CompressedMessage) -> U8:
    """The pixels ``(H, W, 3) uint8``, red first, of a JPEG or PNG picture.

    Raises:
        ImageError: it is a depth image, has 16 bits per colour, or cannot be decoded.
    """
    import cv2

    form = str(msg.format)
    if "compressedDepth" in form or form.split(";")[0].strip() in _DEPTH:
        raise ImageError(f"compressed image format is '{form}', a depth image")
    # Without IMREAD_ANYDEPTH, 16 bits would be cut to 8 and nobody told.
    decoded = _imdecode(msg.data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, form)
    if decoded.dtype != np.uint8:
        raise ImageError(f"compressed image with format '{form}' holds {decoded.dtype}, expected 8 bits per colour")
    # Encoders take blue first; a few publishers handed them red first, and say so.
    swapped = "compressed rgb" in form
    return decoded if swapped else np.ascontiguousarray(decoded[..., ::-1])


def compressed_depth_metres(msg: CompressedMessage) -> NDArray[np.float32]:
    """Depth ``(H, W) float32, m`` of a ``16UC1; compressedDepth`` image or a plain 16-bit PNG; NaN where nothing was measured.

    Raises:
        ImageError: another format, or it cannot be decoded.
    """
    import cv2

    form = str(msg.format)
    if "compressedDepth" in form and not form.startswith("16UC1"):
        raise ImageError(f"compressed depth format is '{form}', expected '16UC1; compressedDepth'")
    data = np.frombuffer(msg.data, np.uint8)
    decoded = _imdecode(data[_DEPTH_HEADER:] if "compressedDepth" in form else data, cv2.IMREAD_UNCHANGED, form)
    if decoded.ndim != 2 or decoded.dtype != np.uint16:
        raise ImageError(f"compressed image with format '{form}' holds {decoded.dtype} {decoded.shape}, no depth of 16 bits")
    return _from_millimetres(decoded)


def image_rows(msg: ImageMessage, bytes_per_pixel: int) -> U8:
    """The bytes ``(H, W * bytes_per_pixel) uint8`` of a message, without the padding at the end of its rows.

    Raises:
        ImageError: an empty or big-endian message, or width, height, step and the size of the data disagree.
    """
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    row = width * bytes_per_pixel
    if width == 0 or height == 0:
        raise ImageError(f"image is empty: {width} x {height} pixels")
    if msg.is_bigendian:
        raise ImageError("image is big-endian, expected little-endian")
    if step < row:
        raise ImageError(f"image step is {step} bytes, a row of {width} pixels needs {row}")
    if len(msg.data) != step * height:
        raise ImageError(f"image holds {len(msg.data)} bytes, expected step {step} x height {height}")
    return np.frombuffer(msg.data, dtype=np.uint8).reshape(height, step)[:, :row]


def _from_millimetres(values: NDArray[Any]) -> NDArray[np.float32]:
    return np.where(values > 0, values.astype(np.float32) * np.float32(0.001), np.float32(np.nan)).astype(np.float32)


def _imdecode(data: Any, flags: int, form: str) -> NDArray[Any]:
    import cv2

    content = np.frombuffer(data, np.uint8)
    if content.size == 0:
        raise ImageError("compressed image is empty")
    try:
        decoded = cv2.imdecode(content, flags)
    except cv2.error as error:
        raise ImageError(f"compressed image with format '{form}' cannot be decoded: {' '.join(str(error).split())}") from error
    if decoded is None or decoded.size == 0:
        raise ImageError(f"compressed image with format '{form}' of {content.size} bytes cannot be decoded")
    found: NDArray[Any] = decoded
    return found
