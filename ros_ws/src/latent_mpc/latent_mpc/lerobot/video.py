"""Pictures in MP4 files, through the ffmpeg that imageio-ffmpeg brings."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from latent_mpc.lerobot.layout import LeRobotError

CODEC = "h264"
# Close to the original: what is trained on it should not learn the codec. A key frame every other picture, as LeRobot has it: random access.
_QUALITY, _KEY_FRAMES = 8, 2


def pixel_format(height: int, width: int) -> str:
    """Colours at half the resolution, unless a side is odd."""
    return "yuv420p" if height % 2 == 0 and width % 2 == 0 else "yuv444p"


def encode(file: Path, frames: Iterable[NDArray[np.uint8]], height: int, width: int, fps: float) -> None:
    """Write pictures ``(h, w, 3) uint8``, one every ``1/fps`` s.

    Raises:
        LeRobotError: ffmpeg fails; the message is its last line.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    rate = str(Fraction(fps).limit_denominator(100_000))
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate, "-i", "-"]
    target = ["-c:v", "libx264", "-crf", str(_QUALITY), "-g", str(_KEY_FRAMES), "-pix_fmt", pixel_format(height, width), "-r", rate]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *source, *target, "-movflags", "+faststart", str(file)]
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said) as process:
            assert process.stdin is not None
            try:
                for frame in frames:
                    process.stdin.write(np.ascontiguousarray(frame, np.uint8).tobytes())
                process.stdin.close()
            except BrokenPipeError:
                pass  # it says why below
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            said.seek(0)
            raise LeRobotError(f"{file}: ffmpeg could not write it: {_last_line(said.read())}")


def decode(file: Path, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
    """Every picture ``(h, w, 3) uint8`` of a file whose pictures are said to be ``height`` x ``width``.

    Raises:
        LeRobotError: it cannot be decoded.
    """
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-i", str(file), "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough", "-vf", f"scale={width}:{height}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    size = height * width * 3
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said) as process:
        assert process.stdout is not None
        try:
            while len(data := process.stdout.read(size)) == size:
                yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
            if process.wait() != 0:
                said.seek(0)
                raise LeRobotError(f"{file} cannot be decoded: {_last_line(said.read())}")
        finally:
            process.kill()


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"
