"""Bags of any arm become data sets: whatever topic says what was done, in the order and by the clock that they have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from bag_writing import bag, floats, header, image, joint_state, msg, trajectory
from latent_mpc.bag import BagError
from latent_mpc.bag_data import AskedTopics, BagImport, import_bags
from latent_mpc.cli import run

from world_model.data import DatasetError, EpisodeDataset, join

MS = 1_000_000
START = 1_700_000_000_000 * MS
NAMES = ("hip", "knee")
OTHERS = ("gripper", "knee", "wheel", "hip")
PERIOD = 200 * MS


def quiet(done: int, of: int) -> None:
    """Reports go nowhere."""


def bend(ns: int) -> np.ndarray:
    """Joints at ``ns``: corners every 40 ms, where joint states are measured, straight lines between, which interpolation must hit."""
    corners = np.arange(0, 60_000, 40)
    turned = np.stack([np.sin(corners / 700), 0.4 * np.cos(corners / 450)], -1)
    return np.array([np.interp((ns - START) / MS, corners, column) for column in turned.T])


def twist(linear, angular=(0.0, 0.0, 0.0)):
    def of(values):
        return msg("geometry_msgs/msg/Vector3", x=values[0], y=values[1], z=values[2])

    return msg("geometry_msgs/msg/Twist", linear=of(linear), angular=of(angular))


def recorded(
    folder: Path, seconds: float = 6.0, commands=(), joints=bend, size=(64, 64), shift=lambda ns: 0, lost=lambda ns: False, extra=()
) -> Path:
    """A camera at 20 Hz that shows its frame number, joints at 25 Hz in another order with others between them, and what else is given.

    ``shift``: how much later than the recorder's clock the arm's own runs.
    """
    entries = [*commands, *extra]
    for ns in range(START, START + int(seconds * 1e9), 10 * MS):
        stamp = ns + shift(ns)
        if (ns - START) % (40 * MS) == 0:
            values = dict(zip(NAMES, joints(ns), strict=True)) | {"gripper": 9.0, "wheel": -9.0}
            entries.append((ns, "/arm/states", "sensor_msgs/msg/JointState", joint_state(stamp, OTHERS, [values[n] for n in OTHERS], np.zeros(4))))
        if (ns - START) % (50 * MS) == 0 and not lost(ns):
            shade = (ns - START) // (50 * MS) % 250
            entries.append((ns, "/cam", "sensor_msgs/msg/Image", image(stamp, np.full((*size, 3), shade, np.uint8))))
    with bag(folder) as put:
        for ns, topic, kind, message in sorted(entries, key=lambda entry: entry[0]):
            put(topic, kind, ns, message)
    return folder


def imported(folder: Path, *bags: Path, **asked) -> EpisodeDataset:
    import_bags(BagImport(tuple(bags), None, folder, **({"joints": NAMES, "steps": 5} | asked)), quiet)
    return EpisodeDataset(folder)


def unscaled(data: EpisodeDataset) -> np.ndarray:
    space = data.description["action_space"]
    low, high = np.array(space["low"]), np.array(space["high"])
    return low + (data.actions().reshape(-1, data.action_dim) + 1) / 2 * (high - low)


def test_joints_are_interpolated_at_the_pictures_stamps_whatever_their_order(tmp_path):
    data = imported(tmp_path / "set", recorded(tmp_path / "bag"))
    assert (data.episodes, data.steps, data.action_dim) == (5, 5, 2)
    moments = START + PERIOD * np.arange(26)
    wanted = np.array([bend(int(ns)) for ns in moments])
    for episode in range(5):
        part = slice(5 * episode, 5 * episode + 6)
        assert data.frames()[episode][:, 0, 0, 0].tolist() == (4 * np.arange(30) % 250)[part].tolist()
        assert np.allclose(data.joints()[episode], wanted[part], atol=1e-6)
    assert np.allclose(unscaled(data), np.diff(wanted, axis=0), atol=1e-6)
    space = data.description["action_space"]
    assert space["meaning"] == "joint displacement" and space["names"] == list(NAMES) and space["low"] == [-v for v in space["high"]]
    assert np.abs(data.actions()).max() == pytest.approx(1.0)
    assert data.description["joints"] == list(NAMES) and data.state() is None


def test_a_leader_arm_says_where_to_not_the_one_that_follows(tmp_path):
    lead = [
        (
            ns,
            "/leader",
            "sensor_msgs/msg/JointState",
            joint_state(ns, OTHERS[::-1], [bend(ns + 80 * MS)[0], 5, bend(ns + 80 * MS)[1], 5], np.zeros(4)),
        )
        for ns in range(START, START + 6_000 * MS, 20 * MS)
    ]
    folder = recorded(tmp_path / "bag", commands=lead)
    topics = AskedTopics(actions="/leader")
    led = np.array([bend(START + k * PERIOD + 80 * MS) for k in range(26)])
    assert np.allclose(unscaled(imported(tmp_path / "ways", folder, topics=topics)), np.diff(led, axis=0), atol=1e-6)
    assert np.allclose(unscaled(imported(tmp_path / "places", folder, topics=topics, means="command")), led[:-1], atol=1e-6)


def test_a_trajectory_is_followed_between_its_points(tmp_path):
    sent = []
    for ns in range(START, START + 6_000 * MS, 400 * MS):
        points = np.stack([bend(ns + 40 * MS * (k + 1)) for k in range(12)])
        sent.append((ns, "/t", "trajectory_msgs/msg/JointTrajectory", trajectory(ns, points[:, ::-1], joints=NAMES[::-1], step_ns=40 * MS)))
    later = recorded(tmp_path / "bag", commands=sent, joints=lambda ns: bend(ns) + 0.1 * np.sin((ns - START) / 1e9))
    data = imported(tmp_path / "set", later)  # the only trajectory needs no name
    wanted = np.diff([bend(START + k * PERIOD) for k in range(26)], axis=0)
    assert np.allclose(unscaled(data)[1:], wanted[1:], atol=1e-6)


def test_velocities_are_summed_up_and_end_when_nobody_repeats_them(tmp_path):
    said = [(START + 30 * MS, 0.5), (START + 170 * MS, -0.25), (START + 330 * MS, 1.0), (START + 700 * MS, 0.2)]
    later = [(ns, 0.1 * (ns // (100 * MS) % 7)) for ns in range(START + 2_000 * MS, START + 6_000 * MS, 100 * MS)]
    sent = [(ns, "/cmd", "geometry_msgs/msg/Twist", twist((value, 0.0, -value))) for ns, value in (*said, *later)]
    sent.append((START + 400 * MS, "/cmd", "geometry_msgs/msg/Twist", twist((np.nan, 0.0, 0.0))))  # nobody obeys that
    data = imported(tmp_path / "set", recorded(tmp_path / "bag", commands=sent), topics=AskedTopics(actions="/cmd"), means="command")
    # Evaluated on a grid of 1 ms: the newest command, for half a second.
    grid = START + MS * np.arange(6_000)
    times, values = np.array([ns for ns, _ in (*said, *later)]), np.array([value for _, value in (*said, *later)])
    newest = np.searchsorted(times, grid, side="right") - 1
    now = np.where((newest >= 0) & (grid - times[newest] < 500 * MS), values[newest], 0.0)
    wanted = now.reshape(-1, 200).mean(1)[:25]
    assert np.allclose(unscaled(data)[:, 0], wanted, atol=1e-6) and np.allclose(unscaled(data)[:, 2], -wanted, atol=1e-6)
    assert data.description["action_space"]["names"][:3] == ["linear.x", "linear.y", "linear.z"]
    assert data.actions()[0, 4, 1] == 0, "an axis that never moves is not blown up"


def test_numbers_without_names_are_positions_or_velocities_as_said(tmp_path):
    sent = [
        (ns, "/f", "std_msgs/msg/Float64MultiArray", floats(0.1 * (1 + np.arange(2)) * np.sin((ns - START) / 1e9)))
        for ns in range(START, START + 6_000 * MS, 100 * MS)
    ]
    folder = recorded(tmp_path / "bag", commands=sent)
    topics = AskedTopics(actions="/f")
    at = [START + k * PERIOD for k in range(26)]
    places = 0.1 * np.sin((np.array(at) - START) / 1e9)
    assert np.allclose(unscaled(imported(tmp_path / "p", folder, topics=topics))[:, 0], np.diff(places), atol=1e-6)
    turned = unscaled(imported(tmp_path / "v", folder, topics=topics, velocities=True))
    exact = [0.1 * 0.1 * (np.sin((ns - START) / 1e9) + np.sin((ns - START) / 1e9 + 0.1)) for ns in at[:-1]]
    assert np.allclose(turned, np.outer(exact, [1, 2]), atol=1e-6)
    with pytest.raises(BagError, match="messages of 2 numbers, but 4 joints: say --joints"):
        imported(tmp_path / "all", folder, topics=topics, joints=None)


def test_a_clock_that_goes_back_ends_an_episode_and_mixes_nothing(tmp_path):
    back = START + 3_000 * MS
    folder = recorded(tmp_path / "bag", shift=lambda ns: -2_500 * MS if ns >= back else 0)
    result = import_bags(BagImport((folder,), None, tmp_path / "set", joints=NAMES, steps=5), quiet)
    data = EpisodeDataset(tmp_path / "set")
    assert result.cut_at == {"clock jumps": 1} and data.episodes == 4
    for frames, joints in zip(data.frames()[:, :, 0, 0, 0], data.joints(), strict=True):
        assert (np.diff(frames.astype(int)) == 4).all(), "pictures of both times would jump"
        assert np.allclose(joints, [bend(START + int(shade) * 50 * MS) for shade in frames], atol=1e-6)


def test_episodes_end_at_markers_gaps_and_where_the_arm_stands(tmp_path):
    rest, moves = START + 4_000 * MS, START + 7_000 * MS

    def joints(ns: int) -> np.ndarray:
        return bend(min(ns, rest) if ns < moves else ns - (moves - rest))

    silence = START + 9_000 * MS
    marks = [(START + 2_030 * MS, "/mark", "std_msgs/msg/String", msg("std_msgs/msg/String", data="next"))]
    folder = recorded(tmp_path / "bag", 12.0, joints=joints, extra=marks, lost=lambda ns: silence <= ns < silence + 400 * MS)
    asked = BagImport((folder,), None, tmp_path / "set", joints=NAMES, steps=3, topics=AskedTopics(markers=("/mark",)))
    result = import_bags(asked, quiet)
    assert result.cut_at == {"markers": 1, "gaps": 1, "standstills": 1}
    assert result.dropped["idle"] == 14
    begins = [(source["stamp_ns"] - START) / 1e9 for source in EpisodeDataset(tmp_path / "set").description["sources"]]
    for begin in begins:
        assert not any(begin < end < begin + 0.6 for end in (2.03, 5.5, 9.2)), "nothing reaches over a marker, a standstill or a gap"
    used = result.episodes * 3 + sum(result.dropped.values())
    assert used == 10 + 34 + 12, "every step between two frames of a run is in an episode or counted"


def test_frames_without_joints_are_counted(tmp_path):
    entries = [
        (ns, "/cam", "sensor_msgs/msg/Image", image(ns, np.zeros((64, 64, 3), np.uint8)))
        for ns in range(START + 6_100 * MS, START + 7_000 * MS, 50 * MS)
    ]
    result = import_bags(BagImport((recorded(tmp_path / "bag", extra=entries),), None, tmp_path / "set", joints=NAMES, steps=5), quiet)
    assert result.frames == {"without a joint state": 18} and "frames not used: 18 without a joint state" in result.text()


def test_pictures_are_cut_to_their_middle_and_made_smaller_by_area(tmp_path):
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (96, 160, 3), dtype=np.uint8)
    folder = recorded(
        tmp_path / "bag",
        lost=lambda ns: True,
        extra=[(ns, "/cam", "sensor_msgs/msg/Image", image(ns, wide)) for ns in range(START, START + 3_000 * MS, 50 * MS)],
    )
    seen = imported(tmp_path / "set", folder, size=(48, 48)).frames()[0, 0]
    mean = wide[:, 32:128].reshape(48, 2, 48, 2, 3).mean((1, 3))
    assert np.abs(seen - mean).max() <= 0.75


def test_sets_are_trained_on_together_only_if_an_action_means_the_same(tmp_path, capsys):
    one, two = recorded(tmp_path / "one"), recorded(tmp_path / "two", joints=lambda ns: 0.5 * bend(ns))
    first, other = imported(tmp_path / "a", one), imported(tmp_path / "b", two)
    with pytest.raises(DatasetError, match="differ in action_space"):
        join([first, other])
    common = ["dataset", "from-bag", str(two), "--joints", "hip,knee", "--episode-steps", "5"]
    assert run([*common, "--like", str(tmp_path / "a"), "--out", str(tmp_path / "c")]) == 0
    assert join([first, EpisodeDataset(tmp_path / "c")]).episodes == 10
    assert np.allclose(EpisodeDataset(tmp_path / "c").actions(), first.actions() / 2, atol=1e-5)
    result = import_bags(BagImport((one,), None, tmp_path / "d", steps=2, like=other.description, like_name="b"), quiet)
    assert result.dropped["further than the scale reaches"] > 0, "twice as fast as the slower bag's scale"


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys):
    folder = recorded(tmp_path / "bag", 2.0)
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "dataset.json").write_text(
        json.dumps({"env": "X-v0", "action_space": {"low": [0], "high": [1], "dim": 1}, "frame": [64, 64, 3]})
    )
    space = {"low": [-1, -1], "high": [1, 1], "meaning": "command", "names": ["a", "b"], "unit": "rad", "period_s": 0.2}
    for name, content in (("cut", '{"task": '), ("list", "[1]"), ("blind", json.dumps({"action_space": space}))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.json").write_text(content)
    cases = [
        (["--like", str(tmp_path / "cut")], "cut/dataset.json is not JSON"),
        (["--like", str(tmp_path / "list")], "list/dataset.json describes no data set: it holds a list"),
        (["--like", str(tmp_path / "blind")], "blind does not say how large its pictures are: its frame is None"),
        (["--camera", "/nowhere"], "holds no topic /nowhere (--camera); it holds /arm/states, /cam"),
        (["--actions", "/cam"], "/cam is of type sensor_msgs/msg/Image; --actions takes trajectory_msgs/msg/JointTrajectory"),
        (["--marker", "/m"], "holds no topic /m (--marker)"),
        (["--joints", "hip, elbow"], "with the joints hip, elbow that could be used"),
        (["--means", "magic"], "actions can mean joints, command, not 'magic'"),
        (["--means", "command"], "holds no commands"),
        (["--task", "push", "--like", "x"], "give either --task or --like"),
        (["--like", str(tmp_path / "env")], "are none that a bag could hold"),
        (["--like", str(tmp_path)], "holds neither a data set"),
        (["--size", "128"], "pictures are 64 x 64 pixels, fewer than the 128 x 128 that are asked for"),
        (["--period", "0"], "--period is 0.0"),
        (["--episode-steps", "40"], "no unbroken motion of 40 steps in these bags, the longest has 9"),
    ]
    for options, reason in cases:
        assert run(["dataset", "from-bag", str(folder), "--out", str(tmp_path / "set"), *options]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert reason in error and error.startswith("latent-mpc: error: "), error
        assert not (tmp_path / "set").exists()


def test_what_was_read_is_said(tmp_path, capsys):
    """Numbers without names are taken for commands only when somebody says so; that nobody did is to be seen."""
    numbers = [(START + k * 100 * MS, "/numbers", "std_msgs/msg/Float64MultiArray", floats([0.1 * k, 0.0])) for k in range(60)]
    folder = recorded(tmp_path / "bag", commands=numbers)
    asked = ["dataset", "from-bag", str(folder), "--joints", ", ".join(NAMES), "--episode-steps", "5"]
    for name, options, actions in (("a", [], "from the measured joints"), ("b", ["--actions", "/numbers"], "/numbers")):
        assert run([*asked, "--out", str(tmp_path / name), *options]) == 0
        assert f"pictures: /cam; joints: /arm/states; actions: {actions}" in capsys.readouterr().out


def test_a_picture_that_breaks_late_leaves_nothing_of_what_came_before(tmp_path):
    one = recorded(tmp_path / "one")
    strange = image(START + 6_000 * MS, np.zeros((64, 64, 3), np.uint8))
    strange.encoding = "strange"
    joints = joint_state(START + 6_000 * MS, NAMES, bend(START + 6_000 * MS), np.zeros(2))
    extra = [
        (START + 6_000 * MS, "/cam", "sensor_msgs/msg/Image", strange),
        (START + 6_000 * MS, "/arm/states", "sensor_msgs/msg/JointState", joints),
    ]
    two = recorded(tmp_path / "two", extra=extra)
    with pytest.raises(BagError, match=r"two, /cam: .*strange"):
        imported(tmp_path / "set", one, two, episodes_per_shard=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_compressed_pictures_are_read_or_refused_in_one_line(tmp_path, capsys):
    content = np.frombuffer(b"no picture at all", np.uint8)
    broken = msg("sensor_msgs/msg/CompressedImage", header=header(START), format="jpeg", data=content)
    folder = recorded(
        tmp_path / "bag", lost=lambda ns: True, extra=[(START + k, "/cam/compressed", "sensor_msgs/msg/CompressedImage", broken) for k in range(2)]
    )
    assert run(["dataset", "from-bag", str(folder), "--out", str(tmp_path / "set")]) == 2
    assert "bag holds no camera: /cam/compressed: " in capsys.readouterr().err and not (tmp_path / "set").exists()


def test_stamps_that_were_never_set_are_those_of_the_recorder(tmp_path):
    folder = tmp_path / "bag"
    with bag(folder) as put:
        for ns in range(START, START + 3_000 * MS, 40 * MS):
            put(
                "/arm/states",
                "sensor_msgs/msg/JointState",
                ns,
                msg("sensor_msgs/msg/JointState", header=header(0), name=list(NAMES), position=bend(ns), velocity=np.empty(0), effort=np.empty(0)),
            )
            put("/cam", "sensor_msgs/msg/Image", ns, image(0, np.zeros((64, 64, 3), np.uint8)))
    data = imported(tmp_path / "set", folder, joints=None)
    assert np.allclose(data.joints()[0], [bend(START + k * PERIOD) for k in range(6)], atol=1e-6)


def test_sets_of_other_joints_are_not_mixed(tmp_path):
    folder = recorded(tmp_path / "bag")
    one = imported(tmp_path / "a", folder)
    with pytest.raises(BagError, match="--joints are knee, hip, but a has hip, knee"):
        imported(tmp_path / "b", folder, like=one.description, like_name="a", joints=NAMES[::-1])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    said = json.loads((tmp_path / "b" / "dataset.json").read_text()) | {"joints": ["shoulder", "elbow"]}
    (tmp_path / "b" / "dataset.json").write_text(json.dumps(said))
    with pytest.raises(DatasetError, match="differ in joints"):
        join([one, EpisodeDataset(tmp_path / "b")])
