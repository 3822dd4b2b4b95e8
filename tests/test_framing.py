"""Framing: which part of a picture the model sees, and the calibration that goes with it, by projecting points."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import wait_until

from world_model.framing import Crop, FramingError, frame, framed_intrinsics, middle, read_crop

K = np.array([[500.0, 0.0, 321.0], [0.0, 510.0, 239.0], [0.0, 0.0, 1.0]])


def test_the_middle_is_the_largest_part_of_the_shape():
    assert middle(640, 480, 1.0) == Crop(80, 0, 480, 480)
    assert middle(480, 640, 1.0) == Crop(0, 80, 480, 480)
    assert middle(640, 480, 2.0) == Crop(0, 80, 640, 320)
    assert middle(64, 64, 1.0) == Crop(0, 0, 64, 64)
    assert middle(100, 1, 0.4) == Crop(49, 0, 1, 1) and middle(1, 100, 2.5) == Crop(0, 49, 1, 1), "never nothing, which could not be scaled"


def test_scaling_down_averages_and_keeps_a_picture_of_the_right_size_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    crop = Crop(8, 0, 48, 48)
    means = pixels[:, 8:56].reshape(16, 3, 16, 3, 3).mean(axis=(1, 3))
    assert np.abs(frame(pixels, crop, 16, 16) - means).max() <= 0.51
    assert np.array_equal(frame(pixels, Crop(0, 0, 64, 48), 64, 48), pixels)
    with pytest.raises(FramingError, match="does not lie in a picture"):
        frame(pixels, Crop(20, 0, 48, 48), 16, 16)


def test_a_point_is_seen_where_its_pixel_went():
    """A white block in the whole picture has its centre where the framed camera matrix projects the point that it shows."""
    crop, size = Crop(80, 40, 400, 400), 100
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[200:208, 300:308] = 255  # its centre is pixel (303.5, 203.5)
    ray = np.linalg.inv(K) @ [303.5, 203.5, 1.0]
    framed = frame(pixels, crop, size, size)[..., 0].astype(float)
    rows, columns = np.mgrid[:size, :size]
    seen = [(framed * grid).sum() / framed.sum() for grid in (columns, rows)]
    projected = framed_intrinsics(K, crop, size, size) @ ray
    assert projected[:2] / projected[2] == pytest.approx(seen, abs=1e-6)


@pytest.mark.parametrize("text", ["[1, 2, 3]", "[0, 0, 0, 5]", "[-1, 0, 5, 5]", "hello", "[", "[0, 0, 5.5, 5]"])
def test_a_crop_that_is_none_is_refused(text):
    with pytest.raises(FramingError, match="crop is"):
        read_crop(text)
    assert read_crop("") is None and read_crop("[1, 2, 3, 4]") == Crop(1, 2, 3, 4)


def test_the_node_frames_pictures_and_their_calibration(ros_context, start_node):
    rclpy = pytest.importorskip("rclpy")
    from sensor_msgs.msg import CameraInfo, Image

    from ros_bridge import qos
    from ros_bridge.images import array_to_image, image_to_array
    from ros_bridge.stamps import header_at

    node = rclpy.create_node("camera_and_reader")
    try:
        images, infos = [], []
        node.create_subscription(Image, "/framed/image_raw", images.append, qos.CAMERA)
        node.create_subscription(CameraInfo, "/framed/camera_info", infos.append, qos.CAMERA)
        camera = node.create_publisher(Image, "/camera/camera/color/image_raw", qos.CAMERA)
        calibration = node.create_publisher(CameraInfo, "/camera/camera/color/camera_info", qos.CAMERA)
        running = start_node("latent_mpc.framing_node", "--params-file", "launch/config/framing.yaml")
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:, :32] = 200

        def both():
            header = header_at(123, "optical")
            camera.publish(array_to_image(pixels, header))
            calibration.publish(CameraInfo(header=header, width=64, height=48, k=K.ravel(), p=np.hstack([K, np.zeros((3, 1))]).ravel()))
            rclpy.spin_once(node, timeout_sec=0.05)
            return images and infos

        wait_until(both, 30.0, "a framed picture and its calibration")
        framed = image_to_array(images[-1])
        assert framed.shape == (64, 64, 3) and framed[0, 0, 0] == 200 and framed[0, -1, 0] == 0
        assert images[-1].header.frame_id == infos[-1].header.frame_id == "optical"
        assert images[-1].header.stamp == infos[-1].header.stamp == header_at(123).stamp
        assert np.array(infos[-1].k).reshape(3, 3) == pytest.approx(framed_intrinsics(K, Crop(8, 0, 48, 48), 64, 64))
        assert (infos[-1].width, infos[-1].height) == (64, 64)
        assert running.stop() == 0, running.output
    finally:
        node.destroy_node()
