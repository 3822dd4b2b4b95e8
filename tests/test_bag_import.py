"""Bags become data sets: frames a step apart, joints and truth of their moment, and the way of the commanded tool, not that of the measured one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bag_writing import bag, floats, image, joint_state, trajectory
from latent_mpc.bag import BagError
from latent_mpc.bag_data import BagImport, import_bags
from latent_mpc.cli import run

from arm_model import Kinematics, load_arm
from sim.tasks import task_named
from world_model.data import DatasetError, EpisodeDataset
from world_model.training import open_episodes

ARM = load_arm()
STEP = task_named("push").tool_step
MS = 1_000_000
CYCLE, CAMERA, LAG, PERIOD = 10 * MS, 50 * MS, 20 * MS, 200 * MS
START = 1_700_000_000_000 * MS
SHUFFLED = [3, 0, 6, 1, 2, 5, 4]


def quiet(done: int, of: int) -> None:
    """Reports go nowhere."""


class Motion:
    """Commanded joints by time: at rest for one step, then one action after another, each at constant tool speed, then at rest for a step."""

    def __init__(self, kinematics: Kinematics, begins: int, tool: np.ndarray, actions: np.ndarray) -> None:
        corners = [tool, tool]
        for action in actions:
            corners.append(corners[-1] + np.array([*(STEP.length_m * action), 0.0]))
        corners.append(corners[-1])
        self.begins, self.ends = begins, begins + PERIOD * (len(corners) - 1)
        self.times = np.arange(self.begins, self.ends + 1, CYCLE)
        knots = np.arange(len(corners)) * PERIOD
        points = np.stack([np.interp(self.times - begins, knots, axis) for axis in np.array(corners).T], -1)
        self.joints = np.empty((len(points), 7))
        seed = None
        for row, point in enumerate(points):
            self.joints[row] = seed = kinematics.solve(point, seed)
        self.tools = points

    def at(self, ns: int) -> np.ndarray:
        return self.joints[np.clip((ns - self.begins) // CYCLE, 0, len(self.joints) - 1)]


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(ARM)


@pytest.fixture(scope="module")
def motions(kinematics) -> list[Motion]:
    rng = np.random.default_rng(0)
    places = np.array([[0.45, -0.1, 0.02], [0.6, 0.1, 0.02]])
    return [
        Motion(kinematics, START + 5 * number * 1000 * MS, place, rng.uniform(-0.6, 0.6, (10, 2)).astype(np.float32))
        for number, place in enumerate(places)
    ]


def write(
    folder: Path, kinematics: Kinematics, motions: list[Motion], size: int = 64, commands: bool = True, truth: bool = True, lost=lambda ns: False
):
    rng = np.random.default_rng(1)
    entries = []
    for motion in motions:
        entries.append((motion.begins, "/sim/goal_image", "sensor_msgs/msg/Image", image(motion.begins, np.zeros((size, size, 3), np.uint8))))
        for ns in motion.times.tolist():
            measured = motion.at(ns - LAG)
            entries.append((ns, "/joint_states", "sensor_msgs/msg/JointState", joint_state(ns, ARM.joints, measured, np.zeros(7))))
            if commands and motion.begins + PERIOD <= ns:
                # Only the first point is ever reached; what follows is how the arm would brake, here wildly.
                points = np.stack([motion.at(ns + CYCLE), *(motion.at(ns) + 0.3 * k for k in (1, 2, 3))])[:, SHUFFLED]
                sent = trajectory(ns, points, joints=[ARM.joints[i] for i in SHUFFLED])
                entries.append((ns, "/joint_trajectory_controller/joint_trajectory", "trajectory_msgs/msg/JointTrajectory", sent))
            if (ns - motion.begins) % CAMERA == 0:
                shade = ((ns - motion.begins) // CAMERA) % 250
                if not lost(ns):
                    entries.append((ns, "/camera/image_raw", "sensor_msgs/msg/Image", image(ns, np.full((size, size, 3), shade, np.uint8))))
                if truth:
                    # Received late by as much as it likes: it carries no stamp.
                    values = [0.1, *kinematics.tool_point(measured), 0.5, 0.0, shade / 100, 0, 0, 0, 7]
                    entries.append((ns + int(rng.integers(0, 200)) * MS, "/sim/ground_truth", "std_msgs/msg/Float64MultiArray", floats(values)))
    with bag(folder) as put:
        for ns, topic, kind, message in sorted(entries, key=lambda entry: entry[0]):
            put(topic, kind, ns, message)
    return folder


def shades(frames: np.ndarray) -> list[int]:
    assert (frames == frames[:, :1, :1, :1]).all()
    return frames[:, 0, 0, 0].tolist()


def test_actions_are_those_that_were_commanded(tmp_path, kinematics, motions):
    recorded = write(tmp_path / "bag", kinematics, motions)
    result = import_bags(BagImport((recorded,), "push", tmp_path / "set", steps=6), quiet)
    data = EpisodeDataset(tmp_path / "set")
    assert (result.episodes, data.episodes, data.steps) == (4, 4, 6)
    said = "pictures: /camera/image_raw; joints: /joint_states; actions: /joint_trajectory_controller/joint_trajectory"
    assert result.dropped == {} and result.text() == f"4 episodes of 6 steps; {said}; cut at: 1 markers"
    for number, motion in enumerate(motions):
        corners = motion.tools[:: PERIOD // CYCLE]
        wanted = np.diff(corners, axis=0)[:, :2] / STEP.length_m
        found = np.concatenate(data.actions()[2 * number : 2 * number + 2])
        assert np.abs(found - wanted).max() < 1e-3, "the arm lags 20 ms behind, which is up to 0.1 of an action"
        moments = motion.begins + PERIOD * np.arange(13)
        for half in range(2):
            part = slice(6 * half, 6 * half + 7)
            assert shades(data.frames()[2 * number + half]) == [4 * k for k in range(13)][part]
            measured = np.array([motion.at(ns - LAG) for ns in moments[part].tolist()])
            assert np.allclose(data.joints()[2 * number + half], measured, atol=1e-6)
            state = data.state()[2 * number + half]
            assert np.allclose(state[:, :3], kinematics.tool_points(measured), atol=1e-5)
            standing = np.isin(np.arange(13)[part], (0, 1, 12))  # at rest, nobody can tell one moment's truth from another's
            assert np.allclose(state[~standing, 5], (np.arange(13)[part] * 0.04)[~standing], atol=0.011)


def test_without_commands_the_measured_joints_say_what_was_done(tmp_path, kinematics, motions):
    recorded = write(tmp_path / "bag", kinematics, motions[:1], commands=False, truth=False)
    import_bags(BagImport((recorded,), "push", tmp_path / "set", steps=12), quiet)
    data = EpisodeDataset(tmp_path / "set")
    measured = np.array([motions[0].at(ns - LAG) for ns in (motions[0].begins + PERIOD * np.arange(13)).tolist()])
    assert np.abs(data.actions()[0] - np.diff(kinematics.tool_points(measured), axis=0)[:, :2] / STEP.length_m).max() < 1e-3
    assert data.state() is None, "a real arm knows no ground truth"


def test_episodes_end_where_the_camera_was_silent(tmp_path, kinematics, motions):
    silence = motions[0].begins + 1_500 * MS
    recorded = write(tmp_path / "bag", kinematics, motions[:1], lost=lambda ns: silence <= ns < silence + 350 * MS)
    result = import_bags(BagImport((recorded,), "push", tmp_path / "set", steps=5), quiet)
    data = EpisodeDataset(tmp_path / "set")
    # Frames 0, 4 .. 28 come before the silence of frames 30 to 36; a new run begins with 37.
    assert shades(data.frames()[0]) == [0, 4, 8, 12, 16, 20] and data.episodes == 1
    assert result.dropped == {"in a stretch shorter than an episode": 2 + 2}


def test_what_no_action_can_mean_is_cut_out(tmp_path, kinematics):
    leap = np.array([[0.5, 0.0], [0.5, 0.0], [2.5, 0.0], [-0.5, 0.0], [-0.5, 0.0], [0.0, 0.2], [0.0, -0.2]], np.float32)
    leaping = Motion(kinematics, START, np.array([0.45, 0.0, 0.02]), leap)
    result = import_bags(BagImport((write(tmp_path / "bag", kinematics, [leaping]),), "push", tmp_path / "set", steps=3), quiet)
    data = EpisodeDataset(tmp_path / "set")
    assert np.allclose(data.actions(), [[[0, 0], [0.5, 0], [0.5, 0]], [[-0.5, 0], [-0.5, 0], [0, 0.2]]], atol=1e-3)
    assert result.dropped == {"outside the workspace or too fast": 1, "in a stretch shorter than an episode": 2}


def test_standing_still_is_no_episode(tmp_path, kinematics, motions):
    standing = Motion(kinematics, START, np.array([0.5, 0.0, 0.02]), np.zeros((10, 2), np.float32))
    with pytest.raises(BagError, match="no unbroken motion of 12 steps in these bags, the longest has 0"):
        import_bags(BagImport((write(tmp_path / "bag", kinematics, [standing]),), "push", tmp_path / "set", steps=12), quiet)


def test_a_set_of_bags_can_be_trained_on_and_names_its_sources(tmp_path, kinematics, motions):
    bags = [write(tmp_path / name / "bag", kinematics, [motion]) for name, motion in zip(("one", "two"), motions, strict=True)]
    asked = BagImport(tuple(bags), "push", tmp_path / "set", steps=6)
    import_bags(asked, quiet)
    import_bags(asked, quiet)  # the same again changes nothing
    description = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert [source["bag"] for source in description["sources"]] == ["one/bag", "one/bag", "two/bag", "two/bag"]
    assert description["sources"][0]["stamp_ns"] == motions[0].begins and description["policy"] == "bags"
    assert open_episodes([tmp_path / "set"], held_out=1).actions.shape == (4, 6, 2)
    with pytest.raises(DatasetError, match="holds a collection with sources"):
        import_bags(BagImport(tuple(bags[:1]), "push", tmp_path / "set", steps=6), quiet)


def test_bags_that_cannot_be_used_are_one_line(tmp_path, kinematics, motions, capsys):
    large = write(tmp_path / "large", kinematics, motions[:1], size=32)
    grey = tmp_path / "grey"
    with bag(grey) as put:
        picture = image(START, np.zeros((64, 64, 3), np.uint8))
        picture.encoding = "16UC1"
        for _ in range(2):
            put("/camera/image_raw", "sensor_msgs/msg/Image", START, picture)
            put("/joint_states", "sensor_msgs/msg/JointState", START, joint_state(START, ARM.joints, ARM.home, np.zeros(7)))
    blind = tmp_path / "blind"
    with bag(blind) as put:
        put("/joint_states", "sensor_msgs/msg/JointState", START, joint_state(START, ARM.joints, ARM.home, np.zeros(7)))
    good = write(tmp_path / "good", kinematics, motions[:1])
    cases = [
        (large, "large, /camera/image_raw: pictures are 32 x 32 pixels, fewer than the 64 x 64 that are asked for"),
        (grey, "grey holds no camera: /camera/image_raw: image encoding is '16UC1', a depth image"),
        (blind, "blind holds no camera: no topic of type sensor_msgs/msg/Image or sensor_msgs/msg/CompressedImage"),
        (tmp_path / "nowhere", "no bag folder"),
        (good, "no unbroken motion of 40 steps in these bags, the longest has 12: give fewer --episode-steps"),
    ]
    for folder, reason in cases:
        assert run(["collect", "--bag", str(folder), "--task", "push", "--out", str(tmp_path / "set")]) == 2
        error = capsys.readouterr().err
        assert reason in error and error.strip().splitlines()[-1].startswith("latent-mpc: error: ")
        assert not (tmp_path / "set").exists()
    assert run(["collect", "--bag", str(good), "--out", str(tmp_path / "set")]) == 2
    assert "say which task the bags recorded" in capsys.readouterr().err
