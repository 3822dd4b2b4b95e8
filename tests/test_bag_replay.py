"""A real run, recorded over DDS, through perception, planner and guardrail once more without it: the same bytes each time, and those of the run."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_writing import START_NS, header, image, joint_state, msg
from bag_writing import bag as written
from bundles import write_bundle
from replay_bags import rewritten

pytest.importorskip("rclpy")


from latent_mpc.bag import BagError, read_messages, stamp_ns
from latent_mpc.bags.profiles import OWN_TOPICS
from latent_mpc.cli import run
from latent_mpc.demo import DemoConfig, run_demo
from latent_mpc.offline_bag import ReplayTopics, perception_then, read_recorded
from latent_mpc.offline_comparison import compare_trajectories, compare_vectors
from latent_mpc.offline_perception import Sight
from latent_mpc.offline_replay import ReplayConfig, ReplayError, read_changes, replay, write_output
from latent_mpc.offline_report import first_difference, text, to_json
from rich.console import Console

from arm_model import Kinematics, load_arm
from planner_node.journal import COLUMNS, Kind
from world_model.perception import Perception
from world_model.runtime import OnnxModel
from world_model.runtimes import RuntimeConfig

ROOT = Path(__file__).resolve().parents[1]
CAMERA, JOINTS, LATENT, PLAN = "/camera/image_raw", "/joint_states", "/perception/latent", "/planner/plan"
COMMAND = "/joint_trajectory_controller/joint_trajectory"
LATENTS = ("/goal/latent", LATENT, "/perception/witness")


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """One episode of the shipped reach model, on whatever machine and under whatever load; again where the machine stood still and cut it short."""
    for _ in range(3):
        folder = tmp_path_factory.mktemp("demo") / "demo"
        (episode,) = run_demo(DemoConfig("reach", 1, 3, folder, report=False), Console(quiet=True)).result.episodes
        if episode.outcome in ("reached", "missed"):
            break
    return folder / "bag"


@pytest.fixture(scope="module")
def replayed(bag):
    return replay(ReplayConfig(bag))


def agreement(found, topic):
    return next(entry for entry in found.agreements if entry.topic == topic)


def test_plans_and_commands_are_those_of_the_run_to_the_bit(replayed):
    """Although its searches were cut by a clock, on a machine that does other things too."""
    for topic in LATENTS[:2]:
        latents = agreement(replayed, topic)
        assert latents.identical == latents.compared > 0, latents
    plans, commands = agreement(replayed, PLAN), agreement(replayed, COMMAND)
    assert plans.compared >= 3 and plans.same, plans
    assert commands.compared > 50 and commands.same, commands
    assert replayed.proposals.results[0][1] == "REACHED_HORIZON"
    report = to_json(replayed)
    assert report["journals"] == {"planner": True, "guardrail": True, "lost_rows": 0} and report["search"]["as_recorded"]
    assert report["guardrail"]["now"]["cycles"] >= commands.compared
    json.dumps(report, allow_nan=False)


def test_two_processes_write_the_same_bytes(bag, replayed, tmp_path):
    """With other hash seeds and numbers of threads; and so does this one."""
    started = []
    for name, threads in (("a", "1"), ("b", "2")):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        environment["PYTHONPATH"] = f"{ROOT}:{ROOT / 'ros_ws/src/latent_mpc'}"
        command = [sys.executable, "-m", "latent_mpc.cli", "bag", "replay", str(bag), "--out", str(tmp_path / name)]
        started.append(subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    printed = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], printed
    outputs = [(tmp_path / name / "replay.npz").read_bytes() for name in ("a", "b")]
    write_output(tmp_path / "c.npz", replayed)
    assert outputs[0] == outputs[1] == (tmp_path / "c.npz").read_bytes()
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("a", "b")]
    for report in reports:
        cost = report.pop("cost")
        assert cost["cpu_s"] > 0 and cost["real_time_factor"] > 0
    assert reports[0] == reports[1] and "times real time" in printed[0]
    with np.load(tmp_path / "c.npz", allow_pickle=False) as arrays:
        assert arrays["plan_points"].sum() == len(arrays["plan_positions"]) and len(arrays["latents"]) == len(arrays["frame_stamps_ns"]) > 50


def test_a_picture_that_was_altered_is_found_at_its_stamp(bag, replayed, tmp_path):
    planned = [plan.trajectory.stamp_ns for plan in replayed.proposals.plans]
    heard = {entry.stamp_ns for entry in replayed.recorded.latents}
    pictured = [stamp for stamp in planned if replayed.sight.frame(stamp) is not None and stamp in heard]
    altered = pictured[len(pictured) // 2]

    def blacken(topic, time_ns, message):
        return dataclasses.replace(message, data=np.zeros_like(message.data)) if stamp_ns(message.header.stamp) == altered else message

    found = replay(ReplayConfig(rewritten(bag, tmp_path / "bag", blacken, only=(CAMERA,))))
    first = first_difference(found.agreements)
    assert first is not None and (first.topic, first.stamp_ns) == (LATENT, altered) and "numbers differ" in first.what
    assert agreement(found, LATENT).identical == agreement(found, LATENT).compared - 1
    plans = agreement(found, PLAN)
    assert plans.first is not None and plans.first.stamp_ns == altered and plans.largest > 1e-6 and "rad instead of" in plans.first.what
    before = sum(stamp < altered for stamp in planned)
    assert before <= plans.identical < plans.compared
    command = agreement(found, COMMAND).first
    assert command is None or command.stamp_ns > altered, "None where the guard was offered the plan too late"
    assert str(altered) in text(found) and "first difference" in text(found)


def test_another_guardrail_changes_the_commands_and_keeps_its_limit(bag, replayed):
    """A third of the speed of the tool: measured on what came out, by differences of the arm's own kinematics."""

    def fastest(commands):
        tool = Kinematics(load_arm()).tool_point
        pairs = [(a, b) for a, b in itertools.pairwise(commands) if b.slot == a.slot + 1]
        return max(np.linalg.norm(tool(b.braking.positions[0]) - tool(a.braking.positions[0])) / 0.01 for a, b in pairs)

    limit = round(fastest(replayed.guarded.commands) / 3, 4)
    if limit < 0.005:
        pytest.skip("the machine was so busy that the arm hardly moved")
    found = replay(ReplayConfig(bag, changes=(f"guardrail.tool_speed={limit}",)))
    assert agreement(found, PLAN).same, "the planner knows nothing of it"
    assert agreement(found, COMMAND).identical < agreement(found, COMMAND).compared and agreement(found, COMMAND).largest > 1e-3
    assert fastest(found.guarded.commands) < 1.02 * limit
    assert found.guarded.filtered + found.guarded.interventions > replayed.guarded.filtered + replayed.guarded.interventions
    assert found.guarded.stops == replayed.guarded.stops, "the arm is taken to follow what is sent now, and does not stray from it"


def test_a_run_in_a_namespace_is_replayed_as_one_without(bag, replayed, tmp_path, capsys):
    moved = rewritten(bag, tmp_path / "moved", lambda *_: None, renamed=lambda topic: f"/arm1{topic}" if topic in OWN_TOPICS else topic)
    found = replay(ReplayConfig(moved, topics=ReplayTopics(namespace="/arm1/")))
    assert found.agreements == replayed.agreements and to_json(found)["journals"] == to_json(replayed)["journals"]
    assert run(["bag", "replay", str(moved), "--model", "models/reach"]) == 2
    assert f"has no topic {CAMERA}: without a camera picture (--camera-topic)" in capsys.readouterr().err


def test_a_run_in_shadow_is_compared_with_what_it_said_there(bag, replayed, tmp_path):
    def in_shadow(topic, time_ns, message):
        return dataclasses.replace(message, data=json.dumps(json.loads(message.data) | {"shadow": True}))

    moved = {COMMAND: "/guardrail/shadow"}
    said = rewritten(bag, tmp_path / "bag", in_shadow, only=("/guardrail/settings",), renamed=lambda topic: moved.get(topic, topic))
    found = agreement(replay(ReplayConfig(said)), "/guardrail/shadow")
    assert found.compared == agreement(replayed, COMMAND).compared and found.same


def test_another_solver_and_another_model_are_compared_and_nothing_is_pretended(bag, tmp_path):
    file = tmp_path / "objective.yaml"
    file.write_text("solver: cem\nsolvers: {cem: {samples: 24, iterations: 2}}\n")
    bundle = write_bundle(tmp_path / "untrained", "reach")
    found = replay(ReplayConfig(bag, str(bundle), (f"planner.planner_file={file}",), surprise=False))
    assert not found.recorded_search and found.proposals.cut == 0
    said = text(found)
    assert "another model" in said and "run to their own end" in said and "stay those of the recorded run" in said
    plans = agreement(found, PLAN)
    assert plans.compared >= 3 and plans.identical <= 1 and plans.largest > 1e-3, "but for the last, which holds"


def test_a_bag_without_journals_is_replayed_by_the_recorders_times_and_says_so(bag, tmp_path):
    stripped = rewritten(bag, tmp_path / "bag", lambda *_: None, lambda topic: not topic.endswith(("/journal", "/settings")))
    with pytest.raises(ReplayError, match="name one with --model"):
        replay(ReplayConfig(stripped))
    outputs = []
    for name in ("one", "two"):
        found = replay(ReplayConfig(stripped, "models/reach"))
        write_output(tmp_path / name, found)
        outputs.append((tmp_path / name).read_bytes())
    assert outputs[0] == outputs[1]
    assert agreement(found, LATENT).identical == agreement(found, LATENT).compared > 0
    assert agreement(found, PLAN).compared >= 3 and agreement(found, COMMAND).compared > 50
    said = text(found)
    assert "holds no /planner/journal" in said and "cannot be expected to be equal" in said and "holds no /guardrail/journal" in said


def test_what_came_after_the_end_of_a_journal_is_not_called_a_difference(bag, replayed, tmp_path):
    middle = (replayed.recorded.start_ns + replayed.recorded.end_ns) // 2
    journals = ("/planner/journal", "/guardrail/journal")
    short = rewritten(bag, tmp_path / "bag", lambda topic, ns, message: message if ns < middle else None, only=journals)
    found = replay(ReplayConfig(short, surprise=False))
    for topic in (PLAN, COMMAND):
        assert agreement(found, topic).same and agreement(found, topic).compared < agreement(replayed, topic).compared


def test_messages_that_make_no_sense_are_passed_over_and_counted(bag, tmp_path):
    heard, begun = collections.Counter(), set()

    def spoil(topic, time_ns, message):
        heard[topic] += 1
        if topic.endswith("journal") and topic not in begun:
            # Without its beginning, the goal and the arming, nothing would be planned and nothing commanded.
            if {Kind.GOAL, Kind.ARM} & set(np.asarray(message.data).reshape(-1, COLUMNS)[:, 0].tolist()):
                begun.add(topic)
                heard[topic] = 0
            return message
        if heard[topic] % 7 != 3:
            return message
        other = heard[topic] % 2 == 0
        if topic == CAMERA:
            return dataclasses.replace(message, step=message.step - 1) if other else dataclasses.replace(message, encoding="yuv9000")
        if topic == JOINTS:
            nonsense = message.position.copy()
            nonsense[3] = np.nan
            return dataclasses.replace(message, position=nonsense) if other else b"\x00\x01\x00\x00\xff"
        if topic == PLAN:
            return dataclasses.replace(message, joint_names=["elbow"] * len(message.joint_names))
        return dataclasses.replace(message, data=message.data[:-1])

    spoilt = rewritten(bag, tmp_path / "bag", spoil, only=(CAMERA, JOINTS, PLAN, "/planner/journal", "/guardrail/journal"))
    found = replay(ReplayConfig(spoilt))
    assert {CAMERA, JOINTS, PLAN} <= found.recorded.refused.keys() and found.recorded.lost_rows > 0
    said = text(found)
    assert f"messages on {CAMERA} cannot be used" in said and "rows of the journals are missing" in said
    assert found.proposals.searches > 0 and found.guarded.cycles > 50


def test_compressed_pictures_are_seen_as_plain_ones(tmp_path):
    """PNG loses nothing: the latents are the same to the bit. Pictures of a kind that holds none are refused one by one."""
    picture = np.random.default_rng(4).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    packed = msg(
        "sensor_msgs/msg/CompressedImage", header=header(START_NS), format="png", data=cv2.imencode(".png", picture[..., ::-1])[1].reshape(-1)
    )
    with written(tmp_path / "bag") as put:
        put("/plain", "sensor_msgs/msg/Image", START_NS, image(START_NS, picture))
        put("/packed", "sensor_msgs/msg/CompressedImage", START_NS, packed)
        put("/word", "std_msgs/msg/String", START_NS, msg("std_msgs/msg/String", data="no picture"))
        put("/joints", "sensor_msgs/msg/JointState", START_NS, joint_state(START_NS, ["a"], [0.0], [0.0]))
    perception = Perception(OnnxModel(ROOT / "models" / "reach", 1), 0.05)
    seen = {}
    for topic in ("/plain", "/packed", "/word", "/joints"):
        with Sight(tmp_path / "bag", ReplayTopics(camera=topic, goal="/never"), perception, True) as sight:
            frames, _ = sight.all()
        seen[topic] = frames
        assert sum(sight.refused.values()) == (not frames)
    assert not seen["/word"] and not seen["/joints"]
    for topic in ("/plain", "/packed"):
        (frame,) = seen[topic]
        assert np.array_equal(frame.latent, perception.encode(picture)) and frame.stamp_ns == START_NS


def test_a_bag_that_lacks_something_is_one_line_that_says_what(bag, tmp_path, capsys):
    cases = {
        CAMERA: "without a camera picture (--camera-topic)",
        JOINTS: "without a joint state (--joint-topic)",
        "/goal/image": "without a goal picture (--goal-topic)",
    }
    for number, (lacking, reason) in enumerate(cases.items()):
        rewritten(bag, tmp_path / str(number), lambda *_: None, lambda topic, lacking=lacking: topic in cases and topic != lacking)
        assert run(["bag", "replay", str(tmp_path / str(number)), "--model", "models/reach"]) == 2
        said = capsys.readouterr().err
        assert reason in said and lacking in said and said.count("\n") == 1
    dark = rewritten(bag, tmp_path / "dark", lambda topic, ns, m: dataclasses.replace(m, encoding="yuv9000"), lambda t: t in cases, only=(CAMERA,))
    with pytest.raises(BagError, match=f"no usable camera picture on {CAMERA}: .*yuv9000"):
        replay(ReplayConfig(dark, "models/reach"))
    for arguments, reason in (
        (["--set", "planner.stepz=3"], "unknown parameter 'stepz'"),
        (["--set", "steps=3"], "write planner.NAME=VALUE"),
        (["--set", "guardrail.tool_speed=-1"], "must be at least 0"),
        (["--search", "quick"], "must be recorded or complete"),
        (["--model", str(tmp_path)], "not a model bundle"),
    ):
        assert run(["bag", "replay", str(bag), "--out", str(tmp_path / "out"), *arguments]) == 2
        said = capsys.readouterr().err
        assert reason in said and said.count("\n") == 1 and not (tmp_path / "out").exists()
    shutil.rmtree(tmp_path / "dark")
    assert run(["bag", "replay", str(tmp_path / "dark")]) == 2


def test_changes_are_values_or_the_text_of_yaml():
    zones = "[{centre: [0.5, 0.0], half: [0.1, 0.1]}]"
    found = read_changes(["planner.steps=40", f"planner.zones={zones}", "guardrail.scene=", "planner.mode=cem", "perception.precision=int8"])
    planner = {"steps": 40, "zones": zones, "mode": "cem"}
    assert found == {"planner": planner, "guardrail": {"scene": ""}, "perception": {"precision": "int8"}}


def test_a_comparison_names_the_joint_the_time_and_the_size(bag):
    from latent_mpc.offline_bag import Timed

    from ros_bridge.joints import Trajectory

    times, rest = np.array([0.0, 0.1, 0.2]), np.zeros((3, 2))
    moved = rest.copy()
    moved[1, 1] = 0.25
    then = [
        Timed(5, 10, Trajectory(10, times, rest, rest)),
        Timed(6, 20, Trajectory(20, times, rest, rest)),
        Timed(7, 30, Trajectory(30, times, rest, rest)),
    ]
    now = [
        Timed(5, 10, Trajectory(10, times, rest, rest)),
        Timed(6, 20, Trajectory(20, times, moved, rest)),
        Timed(9, 25, Trajectory(25, times, rest, rest)),
    ]
    found = compare_trajectories("/plan", then, now, 0, ("shoulder", "elbow"))
    assert (found.compared, found.identical, found.only_then, found.only_now, found.largest) == (2, 1, 1, 1, 0.25)
    assert found.first is not None and found.first.stamp_ns == 20 and "elbow 0.10 s after the stamp: 0.25 rad instead of 0" in found.first.what
    one, other = np.zeros(4, np.float32), np.array([0, 0, 2, 0], np.float32)
    latents = compare_vectors("/latent", [Timed(1, 1, one), Timed(2, 2, one)], [Timed(1, 1, one), Timed(2, 2, other)], 0)
    assert (latents.identical, latents.largest) == (1, 2.0) and latents.first is not None and "number 2 by 2" in latents.first.what


def test_the_recorded_run_is_told_apart_from_one_that_only_resembles_it(bag, capsys):
    """Exit status 1 where it was asked to agree and does not."""
    assert run(["bag", "replay", str(bag), "--must-agree", "--no-surprise", "--set", "planner.steps=5"]) == 1
    assert "first difference" in capsys.readouterr().out
    assert len({entry.topic for entry in read_messages(bag, ("/planner/journal", "/guardrail/journal"))}) == 2


def test_perception_runs_on_what_it_ran_on_whatever_the_planner_is_given(bag, replayed):
    """The bag says so on /diagnostics; a change to one node is no change to the other."""
    pytest.importorskip("torch")
    assert perception_then(bag, ReplayTopics()) == {"runtime": "auto", "precision": "fp32"}
    seen = replay(ReplayConfig(bag, changes=("perception.runtime=torch",)))
    assert seen.sight.perception.model.choice.asked == "torch" and seen.planner.runtime == "auto"
    latents = agreement(seen, LATENT)
    assert latents.compared > 0 and latents.largest < 1e-3, latents
    with pytest.raises(ValueError, match="runtime is 'steam'"):
        replay(ReplayConfig(bag, changes=("perception.runtime=steam",)))
    with pytest.raises(ReplayError, match=r"perception\.threads cannot be changed"):
        replay(ReplayConfig(bag, changes=("perception.threads=2",)))


def test_perception_in_eight_bits_on_a_cpu_is_asked_for_as_the_node_was(tmp_path):
    said = {"runtime_asked": "cpu", "runtime_encoder": "cpu int8_dynamic (first run 5 ms)"}
    values = [msg("diagnostic_msgs/msg/KeyValue", key=key, value=value) for key, value in said.items()]
    runtime = "perception_node: runtime"
    status = msg("diagnostic_msgs/msg/DiagnosticStatus", level=0, name=runtime, message="networks on cpu", hardware_id="", values=values)
    with written(tmp_path / "bag") as write:
        write(
            "/diagnostics",
            "diagnostic_msgs/msg/DiagnosticArray",
            START_NS,
            msg("diagnostic_msgs/msg/DiagnosticArray", header=header(START_NS), status=[status]),
        )
    then = perception_then(tmp_path / "bag", ReplayTopics())
    assert then == {"runtime": "cpu", "precision": "int8"} and RuntimeConfig(1, then["precision"], then["runtime"])


def test_rows_of_a_journal_are_missing_where_a_page_was_lost_but_not_while_the_recorder_joins(tmp_path):
    def lost(*pages):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with written(folder) as write:
            for first, seconds in pages:
                dims = [
                    msg("std_msgs/msg/MultiArrayDimension", label=name, size=size, stride=size) for name, size in (("rows", 2), ("columns", COLUMNS))
                ]
                rows = np.array([[Kind.TICK, 0, 0, 0]] * 2, np.int64).ravel()
                layout = msg("std_msgs/msg/MultiArrayLayout", dim=dims, data_offset=first)
                page = msg("std_msgs/msg/Int64MultiArray", layout=layout, data=rows)
                write("/planner/journal", "std_msgs/msg/Int64MultiArray", START_NS + int(seconds * 1e9), page)
            for topic in (CAMERA, "/goal/image"):
                write(topic, "sensor_msgs/msg/Image", START_NS, image(START_NS, np.zeros((8, 8, 3), np.uint8)))
            names = load_arm().joints
            write(JOINTS, "sensor_msgs/msg/JointState", START_NS, joint_state(START_NS, names, [0.0] * len(names), [0.0] * len(names)))
        return read_recorded(folder, ReplayTopics(), load_arm().joints).lost_rows

    assert lost((0, 0.0), (2, 0.2), (4, 0.8), (6, 1.0)) == 0
    assert lost((8, 0.0), (0, 0.01), (2, 0.01), (6, 0.01), (10, 0.8)) == 0, "the newest came first, and one of those before never"
    assert lost((0, 0.0), (2, 0.2), (4, 0.8), (10, 1.0), (14, 1.2)) == 6


def test_perception_that_said_nothing_runs_on_what_the_planner_does(tmp_path):
    with written(tmp_path / "bag") as write:
        write(JOINTS, "sensor_msgs/msg/JointState", START_NS, joint_state(START_NS, ("a",), [0.0], [0.0]))
    assert perception_then(tmp_path / "bag", ReplayTopics()) == {}
