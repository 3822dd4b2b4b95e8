"""The camera's picture, its calibration, and whether the two belong together and suit the model."""

from __future__ import annotations

from latent_mpc.commissioning.findings import Finding, judged, skipped
from latent_mpc.commissioning.observation import CalibrationSeen, Observation, PictureSeen
from world_model.bundle import Manifest

_KEYS = ("info_size", "frame_id", "calibration")


def check_camera(seen: Observation, framed: bool, manifest: Manifest | None) -> list[Finding]:
    """What the newest picture and the newest camera_info are; ``framed``: whether pictures may have another size than the model's."""
    picture, info = seen.picture, seen.calibration
    if picture is None:
        return [skipped(f"camera.{key}", "no picture") for key in ("encoding", "size", *_KEYS)]
    told = picture.objection or f"{picture.encoding}, {picture.width} x {picture.height}"
    findings = [judged("camera.encoding", not picture.objection, told, "let the driver publish rgb8 (usb_cam: pixel_format mjpeg2rgb or yuyv2rgb)")]
    findings.append(_size(picture, framed, manifest))
    if info is None:
        return [*findings, *(skipped(f"camera.{key}", "no camera_info") for key in _KEYS)]
    return [*findings, *_belongs(picture, info)]


def _size(picture: PictureSeen, framed: bool, manifest: Manifest | None) -> Finding:
    size = f"{picture.width} x {picture.height}"
    if manifest is None:
        return judged("camera.size", picture.width > 0 and picture.height > 0, size, "an empty picture")
    height, width, _ = manifest.frame
    if framed:
        good = picture.width >= width and picture.height >= height
        return judged("camera.size", good, f"{size}, framed to {width} x {height}", "choose a larger picture: the model would see blown-up pixels")
    good = (picture.width, picture.height) == (width, height)
    return judged("camera.size", good, f"{size} of {width} x {height}", "perception resizes nothing: set framed: true for this camera")


def _belongs(picture: PictureSeen, info: CalibrationSeen) -> list[Finding]:
    same = (picture.width, picture.height) == (info.width, info.height)
    sizes = f"picture {picture.width} x {picture.height}, camera_info {info.width} x {info.height}"
    advice = "it belongs to another mode or another camera: calibrate at the size that is used"
    findings = [judged("camera.info_size", same, sizes, advice)]
    frames = f"picture '{picture.frame_id}', camera_info '{info.frame_id}'"
    good = bool(picture.frame_id) and picture.frame_id == info.frame_id
    findings.append(judged("camera.frame_id", good, frames, "both must carry the same frame id, that of the optical frame"))
    (fx, fy), (cx, cy) = info.focal, info.centre
    plausible = fx > 0 and fy > 0 and 0.0 < cx < info.width and 0.0 < cy < info.height
    told = f"f {fx:.1f}, {fy:.1f}, centre {cx:.1f}, {cy:.1f}"
    findings.append(
        judged("camera.calibration", plausible, told, "not calibrated: run camera_calibration and name the file in the driver's camera_info_url")
    )
    return findings
