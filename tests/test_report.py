"""The page and the film of a demo, made from a hand-made bag of two episodes."""

from __future__ import annotations

import re
import subprocess
from html.parser import HTMLParser

import imageio_ffmpeg
import numpy as np
import pytest
from bag_writing import START_NS, STEP_NS, URDF, bag, diagnostic, floats, image, poses, trajectory
from latent_mpc.bag import NS_PER_S
from latent_mpc.charts import Line, Mark, band, histogram, line_chart, share_bar
from latent_mpc.check_bag import TRAJECTORY_TOPIC, check_bag
from latent_mpc.recording import RecordingError, read_recording
from latent_mpc.report import write_report
from latent_mpc.video import compose, read_footage, write_episodes, write_side_by_side

from planner_node.guardrails.zone import Zone
from sim.camera import Camera

EPISODE_S = 2.0
CAMERA = Camera(eye=(1.30, 0.35, 0.75), target=(0.47, 0.0, 0.17), fov_deg=40.0)
ZONE = Zone((0.5, 0.0), (0.09, 0.02), 0.6)


def scene(place, size=64):
    picture = np.full((size, size * 4 // 3 if size > 64 else size, 3), (214, 208, 196), np.uint8)
    x, y = int(place[0] * size * 0.8), int(place[1] * size * 0.8)
    picture[y : y + size // 6, x : x + size // 6] = (200, 40, 40)
    return picture


def write_demo(folder):
    """Two episodes of two seconds, half a second apart, as the nodes would have published them."""
    step_s, status, picture = 0.01, "diagnostic_msgs/msg/DiagnosticStatus", "sensor_msgs/msg/Image"
    rng = np.random.default_rng(3)
    with bag(folder) as write:
        interventions = 0
        for episode in range(2):
            start = START_NS + int(episode * (EPISODE_S + 0.5) * NS_PER_S)
            write("/sim/goal_image", picture, start - 200_000_000, image(start, scene((0.8, 0.7))))
            write("/camera/image_raw", picture, start - 190_000_000, image(start, scene((0.0, 0.0))))  # the reset arm
            write("/goal/image", picture, start, image(start, scene((0.8, 0.7))))
            for tick in range(round(EPISODE_S / step_s)):
                ns, share = start + tick * STEP_NS, tick * step_s / EPISODE_S
                angles = 0.5 * (1 - np.cos(np.pi * share)) * np.array([1.0, -0.6])
                write(TRAJECTORY_TOPIC, "trajectory_msgs/msg/JointTrajectory", ns, trajectory(ns, [angles]))
                if tick % 5 == 0:
                    left = 0.2 * (1 - share) if episode == 0 else 0.2 - 0.05 * share
                    write("/sim/ground_truth", "std_msgs/msg/Float64MultiArray", ns, floats([left, *np.zeros(9), episode]))
                    write("/camera/image_raw", picture, ns, image(ns, scene((0.2 + 0.6 * share, 0.3 + 0.4 * share))))
                if tick % 20 == 0:
                    number = episode * 10 + tick // 20 + 1
                    values = {"step": tick // 20, "steps": 10, "plans": number, "plan_ms": 20 + rng.gamma(2.0, 4.0)}
                    for repetition in range(2):
                        write("/planner/status", status, ns + repetition * 50_000_000, diagnostic("planner", "PLANNING", **values))
                    way = [(0.5 + 0.02 * k, 0.1 * (1 - share) - 0.02 * k, 0.2) for k in range(6)]
                    write("/planner/imagined", "geometry_msgs/msg/PoseArray", ns, poses(ns, way))
                    write("/overview/image_raw", picture, ns, image(ns, scene((0.2 + 0.6 * share, 0.4), 240)))
                if tick % 10 == 0:
                    interventions += tick > 100
                    write("/guardrail/status", status, ns, diagnostic("guardrail", "TRACKING", interventions=interventions))


def outcome(seed, success):
    words = "reached" if success else "missed <the goal>"
    final = 0.01 if success else 0.15
    return {
        "seed": seed, "success": success, "start_distance_m": 0.2, "final_distance_m": final, "steps": 10, "seconds": EPISODE_S, "outcome": words,
    }  # fmt: skip


SUMMARY = {
    "task": "reach",
    "episodes": [outcome(3, True), outcome(4, False)],
    "success_rate": 0.5,
    "plan_rate_hz": 5.0,
    "plan_ms": {"p50": 27.0, "p99": 44.0},
    "frame_to_command_ms": {"p50": 61.0, "p99": None},
    "guardrail": {"cycles": 400, "interventions": 18, "missed_cycles": 0, "stops": 1},
    "limit_violations": 0,
    "bag": "bag",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder / "bag")
    (folder / "two.urdf").write_text(URDF)
    return folder


@pytest.fixture(scope="module")
def recording(demo):
    return read_recording(demo / "bag", [EPISODE_S, EPISODE_S])


def test_a_recording_knows_its_episodes(recording):
    first, second = recording.episodes
    assert first.start_ns == START_NS and second.start_ns == START_NS + 2_500_000_000
    # Each runs on until the arm is at rest, but not into the next.
    assert first.end_ns == second.start_ns - 220_000_000 and second.end_ns == recording.end_ns
    assert np.array_equal(recording.camera.at(first.end_ns), scene((0.2 + 0.6 * 0.975, 0.3 + 0.4 * 0.975)))
    assert recording.plan_ms.values.size == 20, "a status that is repeated counts once"
    assert recording.distance.between(first.start_ns, first.end_ns).values[0] == pytest.approx(0.2)


def test_a_bag_without_a_goal_is_refused_in_one_line(tmp_path):
    with bag(tmp_path / "bag") as write:
        write("/sim/ground_truth", "std_msgs/msg/Float64MultiArray", START_NS, floats(np.zeros(11)))
    with pytest.raises(RecordingError, match="no message on /goal/image"):
        read_recording(tmp_path / "bag", [1.0])


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.text, self.references = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "line", "rect", "polyline"):
            self.open.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        if tag not in ("line", "rect", "polyline"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_small_and_needs_nothing_else(demo, tmp_path):
    check = check_bag(demo / "bag", demo / "two.urdf")
    write_report(tmp_path / "report.html", SUMMARY, demo / "bag", check, demo / "two.urdf")
    html = (tmp_path / "report.html").read_text()
    assert len(html) < 1_000_000
    page = _Page()
    page.feed(html.replace("/>", ">"))
    assert all(reference.startswith("data:image/png;base64,") for reference in page.references)
    assert len(page.references) == 6, "start, end and goal of two episodes"
    assert "<script" not in html and "missed &lt;the goal&gt;" in html
    text = " ".join(page.text)
    for words in ("1 of 2", "p50", "interventions", "smallest margin", "61 ms"):
        assert words in text
    assert not re.search(r"\b(nan|inf|None)\b", text)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_charts_stand_nothing_and_nonsense():
    empty = np.empty(0)
    assert line_chart([], "x", "y").startswith("<svg")
    assert "polyline" in line_chart([Line(empty, empty, "red")], "x", "y")
    assert "nothing was measured" in histogram(empty, "ms")
    assert "<svg" in histogram(np.array([3.0]), "ms", [Mark(3.0, "p50")])
    assert "width:100.0%" in share_bar(1.7, "too much") and "170%" in share_bar(1.7, "too much")
    assert "polyline" in band(np.array([0.0, 1.0]), np.array([0.0, 5.0]), -1.0, 1.0)


def probed(path):
    """What the encoder's own decoder says: codec, pixel format, size, pictures."""
    said = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path)], capture_output=True, text=True).stderr
    video = next(line for line in said.splitlines() if "Video:" in line)
    frames = sum(1 for _ in imageio_ffmpeg.read_frames(str(path))) - 1
    return video, frames


def test_the_film_shows_every_episode_at_ten_pictures_per_second(demo, recording, tmp_path):
    write_episodes(tmp_path / "episode.mp4", recording, read_footage(demo / "bag"), CAMERA, "reach", [None, ZONE])
    video, frames = probed(tmp_path / "episode.mp4")
    assert "h264" in video and "yuv420p" in video and "10 fps" in video and "1008x456" in video
    seconds = sum(span.end_ns - span.start_ns for span in recording.episodes) / NS_PER_S
    assert frames == pytest.approx(seconds * 10 + 2 * 8, abs=2)
    assert [path.name for path in tmp_path.iterdir()] == ["episode.mp4"]


def test_two_runs_side_by_side(demo, recording, tmp_path):
    titles = ("planned with the wall", "actor alone")
    write_side_by_side(tmp_path / "wall.mp4", recording, read_footage(demo / "bag"), CAMERA, [(0, 1)], titles, [ZONE])
    video, frames = probed(tmp_path / "wall.mp4")
    longest = max(span.end_ns - span.start_ns for span in recording.episodes) / NS_PER_S
    assert "2016x456" in video and frames == pytest.approx(longest * 10 + 8, abs=2)


def test_the_imagined_end_is_drawn_where_the_camera_would_see_it(recording):
    from latent_mpc.video import Shot

    grey = np.full((64, 64, 3), 128, np.uint8)
    point = np.array([[0.47, 0.0, 0.17]])  # what the camera looks at: the middle of its picture
    with_path = compose(Shot(None, grey, grey, point, None, "", ""), CAMERA)
    without = compose(Shot(None, grey, grey, None, None, "", ""), CAMERA)
    rows, columns = np.nonzero((with_path != without).any(axis=2))
    assert (rows.mean(), columns.mean()) == pytest.approx((52 + 180, 16 + 180), abs=1)
