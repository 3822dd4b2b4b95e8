"""The planner as it is shipped, a process of its own, over DDS, with an arm that follows its plans on the other side."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from bundles import write_bundle
from conftest import wait_until
from learned_heads import write_linear_head
from tiny_runs import tiny_bundle

pytest.importorskip("rclpy")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from arm_model import Kinematics, load_arm
from planner_node.guardrails.zone import Zone
from ros_bridge import qos
from ros_bridge.diagnostics import status_values
from ros_bridge.images import latent_to_image
from ros_bridge.joints import Trajectory, joint_state_message, read_trajectory
from ros_bridge.stamps import header_at, now_ns, stamp_ns
from sim.tasks import task_named

ARM = load_arm()
KINEMATICS = Kinematics(ARM)
TOOL_STEP = task_named("reach").tool_step
START = KINEMATICS.solve(np.array([0.5, 0.0, 0.2]))
MODULE = "planner_node.planner_node"
LATENT_DIM = 8
STEPS = 6


class Follower:
    """Publishes joint states at 100 Hz that are what the newest plan says, and frames' latents at 20 Hz; records everything."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("follower")
        self.plans: list[Trajectory] = []
        self.statuses: list[DiagnosticStatus] = []
        self.imagined: list[PoseArray] = []
        self.markers: list[MarkerArray] = []
        self.results: list[DiagnosticStatus] = []
        self.frames: list[int] = []
        self.names: set[tuple[str, ...]] = set()
        self.shift_ns = 0
        self.silent = False
        self.position = START.copy()
        self._joints = self.node.create_publisher(JointState, "/joint_states", qos.JOINT_STATES)
        self._latents = self.node.create_publisher(Image, "/perception/latent", qos.LATENT)
        self._goals = self.node.create_publisher(Image, "/goal/latent", qos.GOAL)
        self.node.create_subscription(JointTrajectory, "/planner/plan", self._on_plan, qos.PLAN)
        self.node.create_subscription(DiagnosticStatus, "/planner/status", self.statuses.append, qos.STATUS)
        self.node.create_subscription(DiagnosticStatus, "/planner/result", self.results.append, qos.GOAL)
        self.reports: dict[str, DiagnosticStatus] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", lambda msg: self.reports.update({s.name: s for s in msg.status}), qos.STATUS)
        self._zones = self.node.create_publisher(String, "/planner/zones", qos.GOAL)
        self.node.create_subscription(PoseArray, "/planner/imagined", self.imagined.append, qos.STATUS)
        self.node.create_subscription(MarkerArray, "/planner/markers", self.markers.append, qos.STATUS)
        self.node.create_timer(0.01, self._publish_joints)
        self.node.create_timer(0.05, self._publish_latent)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()

    @property
    def state(self) -> str:
        return self.statuses[-1].message if self.statuses else "?"

    @property
    def values(self) -> dict[str, str]:
        return status_values(self.statuses[-1])

    def wait_for(self, state: str) -> None:
        wait_until(lambda: self.state == state, what=f"state {state}, is {self.state}")

    def show(self, goal: np.ndarray) -> None:
        self._goals.publish(latent_to_image(goal.astype(np.float32), header_at(now_ns(self.node))))

    def fence(self, zones: str) -> None:
        self._zones.publish(String(data=zones))

    def cancel(self) -> tuple[bool, str]:
        """Whether the goal was given up, and what the planner said."""
        client = self.node.create_client(Trigger, "/planner_node/cancel")
        assert client.wait_for_service(20.0)
        answer = client.call_async(Trigger.Request())
        wait_until(answer.done, what="answer to a cancel request")
        self.node.destroy_client(client)
        return answer.result().success, answer.result().message

    def change_state(self, transition: int) -> bool:
        client = self.node.create_client(ChangeState, "/planner_node/change_state")
        assert client.wait_for_service(20.0)
        answer = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        wait_until(answer.done, what="answer to a transition")
        self.node.destroy_client(client)
        return bool(answer.result().success)

    def publish_latent(self, latent: np.ndarray, stamp: int) -> None:
        self.frames.append(stamp)
        self._latents.publish(latent_to_image(latent.astype(np.float32), header_at(stamp)))

    def set(self, name: str, value: str | int | float) -> tuple[bool, str]:
        """Set a parameter of the running node; whether it was accepted, and why not."""
        word = {str: "string", int: "integer", float: "double"}[type(value)]
        kind = getattr(ParameterType, f"PARAMETER_{word.upper()}")
        field = {f"{word}_value": value}
        client = self.node.create_client(SetParameters, "/planner_node/set_parameters")
        assert client.wait_for_service(20.0)
        request = SetParameters.Request(parameters=[Parameter(name=name, value=ParameterValue(type=kind, **field))])
        answer = client.call_async(request)
        wait_until(answer.done, what=f"answer to setting {name}")
        self.node.destroy_client(client)
        result = answer.result().results[0]
        return result.successful, result.reason

    def _on_plan(self, msg: JointTrajectory) -> None:
        self.names.add(tuple(msg.joint_names))
        self.plans.append(read_trajectory(msg, ARM.joints))

    def _publish_joints(self) -> None:
        ns = now_ns(self.node)
        if self.plans:
            plan = self.plans[-1]
            elapsed = (ns - plan.stamp_ns) * 1e-9
            self.position = np.array([np.interp(elapsed, plan.times, plan.positions[:, joint]) for joint in range(len(ARM.joints))])
        self._joints.publish(joint_state_message(ARM.joints, self.position, np.zeros(len(ARM.joints)), header_at(ns)))

    def _publish_latent(self) -> None:
        if self.silent:
            return
        tool = KINEMATICS.tool_point(self.position)
        self.publish_latent(np.resize(10 * tool, LATENT_DIM), now_ns(self.node) + self.shift_ns)


@pytest.fixture
def follower(ros_context) -> Iterator[Follower]:
    opened = Follower()
    yield opened
    opened.close()


@pytest.fixture
def planner(start_node, follower, tmp_path_factory):
    """A planner with a small trained model, six steps an episode, patient with a machine under load."""
    bundle = tiny_bundle(tmp_path_factory.getbasetemp())
    node = start_node(
        MODULE, "-p", f"model:={bundle}", "-p", f"steps:={STEPS}", "-p", "frame_timeout_s:=1.0", "-p", "resync_m:=0.2", "-p", "runtime:=cpu"
    )
    follower.wait_for("IDLE")
    wait_until(lambda: len(follower.frames) > 2, what="frames")
    return node


def assert_sound(plan: Trajectory) -> None:
    assert plan.times[0] >= 0 and np.all(np.diff(plan.times) > 0) and np.diff(plan.times).max() < 0.1
    assert np.all(plan.positions > ARM.limits.lower) and np.all(plan.positions < ARM.limits.upper)
    assert np.all(np.abs(plan.velocities) <= ARM.limits.velocity)
    assert np.all(plan.velocities[-1] == 0), "a plan ends at rest"
    tools = KINEMATICS.tool_points(plan.positions)
    assert np.all(tools > np.array(TOOL_STEP.lower) - 2e-3) and np.all(tools < np.array(TOOL_STEP.upper) + 2e-3)


def test_an_episode_from_goal_to_horizon_and_another_one(planner, follower):
    assert follower.plans == [], "no goal, no plan"
    measured = follower.position.copy()
    follower.show(np.full(LATENT_DIM, 2.0))
    follower.wait_for("REACHED_HORIZON")
    first = list(follower.plans)
    assert len(first) >= 3
    assert follower.names == {ARM.joints}
    assert np.allclose(first[0].positions[0], measured, atol=0.02), "the first plan starts where the arm stands"
    assert {plan.stamp_ns for plan in first} <= set(follower.frames), "a plan carries the stamp of its frame"
    assert [plan.stamp_ns for plan in first] == sorted(plan.stamp_ns for plan in first)
    for plan in first:
        assert_sound(plan)
    assert np.ptp(first[-1].positions[-3:], axis=0).max() < 1e-3, "the last one holds"
    assert any(np.ptp(plan.positions, axis=0).max() > 0.02 for plan in first), "the others moved"
    length_s = (first[-1].stamp_ns - first[0].stamp_ns) * 1e-9
    assert length_s == pytest.approx(STEPS * TOOL_STEP.period_s, abs=0.3)

    values = follower.values
    assert values["step"] == values["steps"] == str(STEPS) and int(values["plans"]) >= 2
    assert float(values["plan_ms"]) > 0 and values["feasible"] == "true" and {"plan_rate_hz", "frame_age_ms", "cost"} <= values.keys()
    assert {status.message for status in follower.statuses} == {"IDLE", "PLANNING", "REACHED_HORIZON"}
    wait_until(lambda: len(follower.imagined) > 0, what="an imagined path")
    assert follower.imagined[-1].header.frame_id == ARM.base_frame and len(follower.imagined[-1].poses) > 1
    assert stamp_ns(follower.imagined[-1].header.stamp) in follower.frames

    said = follower.reports["planner_node: runtime"]
    runs = status_values(said)
    assert said.message == "networks on cpu" and runs["runtime_asked"] == "cpu" and runs["runtime_rollout"].startswith("cpu fp32 (first run ")
    assert "runtime_encoder" not in runs, "the planner never encodes"
    assert "rollout on cpu in fp32 (first run" in planner.output, "every graph ran before the first goal, and how long it took is in the log"

    time.sleep(0.3)
    assert len(follower.plans) == len(first), "nothing is planned after the horizon"
    follower.show(np.full(LATENT_DIM, -2.0))
    wait_until(lambda: len(follower.plans) > len(first), what="plans of a second episode")
    assert np.allclose(follower.plans[len(first)].positions[0], first[-1].positions[-1], atol=0.02)
    follower.wait_for("REACHED_HORIZON")
    assert planner.stop() == 0


def test_a_goal_has_a_result_that_a_program_can_read(planner, follower):
    """Replaced, cancelled, and pursued to the horizon: each goal ends once, with its own stamp."""
    assert follower.cancel() == (False, "no goal is pursued: IDLE")
    follower.show(np.full(LATENT_DIM, 2.0))
    follower.wait_for("PLANNING")
    wait_until(lambda: len(follower.plans) > 0, what="a plan")
    follower.show(np.full(LATENT_DIM, -2.0))
    wait_until(lambda: len(follower.results) == 1, what="the result of the first goal")
    wait_until(lambda: len(follower.plans) > 1, what="a plan for the second goal")
    assert follower.cancel() == (True, "CANCELED")
    wait_until(lambda: len(follower.results) == 2, what="the result of the second goal")
    follower.wait_for("CANCELED")
    time.sleep(0.2)
    held, sent = follower.plans[-1], len(follower.plans)
    settled = held.positions[-3:]
    # From full speed the pursuit still creeps by a milliradian or two in its last 0.1 s.
    assert np.ptp(settled, axis=0).max() < 5e-3, "the last thing that is sent holds"
    assert held.times[-1] < max(plan.times[-1] for plan in follower.plans[:-1]) - 0.1, "it stops, and carries out no more of the plan"
    time.sleep(0.5)
    assert len(follower.plans) == sent, "a goal that was given up is not planned for"
    follower.show(np.full(LATENT_DIM, 1.0))
    follower.wait_for("REACHED_HORIZON")
    wait_until(lambda: len(follower.results) == 3, what="the result of the third goal")

    values = [status_values(result) for result in follower.results]
    assert [result.message for result in follower.results] == ["REPLACED", "CANCELED", "REACHED_HORIZON"]
    assert [value["code"] for value in values] == ["-2", "-1", "2"]
    assert len({value["goal_stamp_ns"] for value in values}) == 3 and int(values[2]["step"]) == STEPS
    assert float(values[2]["seconds"]) == pytest.approx(STEPS * TOOL_STEP.period_s, abs=1.0)


def test_a_goal_waits_for_activation_and_may_be_cancelled_meanwhile(planner, follower):
    follower.show(np.full(LATENT_DIM, 2.0))
    follower.wait_for("PLANNING")
    assert follower.change_state(Transition.TRANSITION_DEACTIVATE)
    follower.wait_for("IDLE")
    wait_until(lambda: [result.message for result in follower.results] == ["CANCELED"], what="the result of the first goal")
    follower.show(np.full(LATENT_DIM, 1.0))
    time.sleep(0.5)
    assert follower.state == "IDLE" and follower.cancel() == (True, "CANCELED")
    assert follower.change_state(Transition.TRANSITION_ACTIVATE)
    time.sleep(0.5)
    assert follower.state == "IDLE", "the goal that waited was cancelled"
    assert follower.change_state(Transition.TRANSITION_DEACTIVATE)
    follower.show(np.full(LATENT_DIM, -1.0))
    time.sleep(0.5)
    assert follower.state == "IDLE", "nobody pursues a goal without being active"
    sent = len(follower.plans)
    assert follower.change_state(Transition.TRANSITION_ACTIVATE)
    follower.wait_for("REACHED_HORIZON")
    assert len(follower.plans) > sent


def test_a_camera_that_falls_silent_ends_the_goal_and_zones_of_a_topic_survive_another_clearance(planner, follower):
    assert follower.set("steps", 500) == (True, "")
    follower.fence(json.dumps([{"centre": [0.5, 0.3], "half": [0.01, 0.01]}]))
    wait_until(lambda: follower.values["zones"] == "1", what="a zone in force")
    assert follower.set("clearance_m", 0.03) == (True, "")
    follower.show(np.full(LATENT_DIM, 2.0))
    wait_until(lambda: len(follower.plans) > 0, what="a plan")
    assert follower.values["zones"] == "1"
    follower.silent = True
    wait_until(lambda: len(follower.results) == 1, what="a result without a camera")
    assert follower.results[0].message == "INTERRUPTED" and status_values(follower.results[0])["code"] == "-3"


def test_zones_from_a_topic_hold_at_once_and_what_cannot_be_read_changes_nothing(planner, follower):
    follower.show(np.full(LATENT_DIM, 2.0))
    wait_until(lambda: len(follower.plans) > 0, what="a plan")
    tool = KINEMATICS.tool_point(follower.position)
    fence = {"centre": [float(tool[0]) + 0.2, float(tool[1])], "half": [0.01, 0.1]}
    follower.fence(json.dumps([fence]))
    wait_until(lambda: follower.values["zones"] == "1", what="a zone in force")
    wait_until(lambda: (follower.markers and len(follower.markers[-1].markers) == 2) or len(follower.markers) > 1, what="a drawn zone")
    follower.fence("[{centre: [0, 0], half: [-1, 0]}]")
    wait_until(lambda: int(follower.values["rejected_zones"]) == 1, what="a refused zone")
    assert follower.values["zones"] == "1" and "those in force stay" in planner.output
    follower.fence("[]")
    wait_until(lambda: follower.values["zones"] == "0", what="no zone")
    follower.fence(json.dumps([fence]))
    wait_until(lambda: follower.values["zones"] == "1", what="a zone again")
    assert follower.set("zones", "") == (True, ""), "the parameter has not changed, and is meant all the same"
    wait_until(lambda: follower.values["zones"] == "0", what="no zone by the parameter")


def test_a_planner_in_a_hurry_ends_where_no_action_leads_nearer(start_node, follower, tmp_path_factory):
    """Distances of an untrained critic do not fall: with patience of a second it gives up long before the horizon."""
    bundle = tiny_bundle(tmp_path_factory.getbasetemp())
    options = ("steps:=200", "frame_timeout_s:=1.0", "resync_m:=0.2", "finish_early:=true", "near_steps:=0.1", "far_steps:=0.2", "patience_s:=1.0")
    node = start_node(MODULE, "-p", f"model:={bundle}", *(word for option in options for word in ("-p", option)))
    follower.wait_for("IDLE")
    wait_until(lambda: len(follower.frames) > 2, what="frames")
    follower.show(np.full(LATENT_DIM, 2.0))
    follower.wait_for("UNREACHABLE")
    wait_until(lambda: len(follower.results) == 1, what="a result")
    values = status_values(follower.results[0])
    assert values["code"] == "-4" and values["stalled"] == "true" and float(values["seconds"]) < 20.0
    assert node.stop() == 0


def test_bad_input_is_refused_counted_and_survived(planner, follower, tmp_path):
    no_head = tmp_path / "objective.yaml"
    no_head.write_text("critics: {goal_cost: {head: neat}}\n")
    # Goals and latents of another size, and frames from a clock that is ahead.
    follower.show(np.zeros(LATENT_DIM + 1))
    wait_until(lambda: int(follower.values["rejected_inputs"]) >= 1, what="a refused goal")
    assert follower.state == "IDLE"
    follower.shift_ns = 2_000_000_000
    follower.show(np.full(LATENT_DIM, 2.0))
    follower.wait_for("PLANNING")
    refused = int(follower.values["rejected_inputs"])
    wait_until(lambda: int(follower.values["rejected_inputs"]) > refused + 3, what="refused frames from the future")
    wait_until(lambda: "in the future" in planner.output, what="a word about the future")
    follower.shift_ns = -3_000_000_000
    time.sleep(0.3)
    assert follower.plans == [], "no plan from frames of the future or the past"
    follower.shift_ns = 0
    wait_until(lambda: len(follower.plans) > 0, what="plans once the clock is right")
    follower.publish_latent(np.full(LATENT_DIM + 3, 1.0), now_ns(follower.node))

    # Parameters.
    assert follower.set("model", "elsewhere") == (False, "parameter 'model' is fixed at the start; restart the node")
    refusals = (
        ("zones", "[{centre: [0, 0]}]", "a zone is"),
        ("mode", "fly", "must be one of"),
        ("steps", 0, ""),
        ("solver", "icme", "unknown solver 'icme'; there are"),
        ("planner_file", "nowhere.yaml", "planner_file nowhere.yaml: No such file"),
        ("planner_file", str(no_head), "critic 'goal_cost' needs a cost head, not 'neat'"),
    )
    for name, value, reason in refusals:
        accepted, why = follower.set(name, value)
        assert not accepted and reason in why and "\n" not in why

    # A planner file that breaks after it was taken over.
    no_head.write_text("solver: icem\n")
    assert follower.set("planner_file", str(no_head)) == (True, "")
    no_head.write_text("solver: icme\n")
    rejected = int(follower.values["rejected_inputs"])
    follower.show(np.full(LATENT_DIM, 1.0))
    wait_until(lambda: int(follower.values["rejected_inputs"]) > rejected, what="a goal that cannot be planned for")
    wait_until(lambda: "goal rejected: " in planner.output and "unknown solver 'icme'" in planner.output, what="the reason")
    assert planner.process.poll() is None, planner.output


def test_zones_given_while_it_runs_are_kept_out_of_from_the_next_goal_on(planner, follower):
    fence = Zone((0.53, 0.06), (0.03, 0.01), 0.3)
    assert follower.set("zones", json.dumps([{"centre": fence.centre, "half": fence.half, "yaw": fence.yaw}])) == (True, "")
    assert follower.set("solver", "icem") == (True, "")
    follower.show(np.full(LATENT_DIM, 3.0))
    wait_until(lambda: any(len(message.markers) == 2 for message in follower.markers), what="a marker for the zone")
    drawn = next(message for message in follower.markers if len(message.markers) == 2).markers[1]
    assert drawn.pose.position.x == pytest.approx(0.53) and drawn.scale.x == pytest.approx(0.06) and drawn.header.frame_id == ARM.base_frame
    follower.wait_for("REACHED_HORIZON")
    for plan in follower.plans:
        assert_sound(plan)
        assert fence.signed_distance(KINEMATICS.tool_points(plan.positions)).min() > 0.012
    values = follower.values
    assert values["solver"] == "icem" and values["validation"] in ("success", "retry") and float(values["plan_margin_zone"]) >= 0
    assert {f"critic_temporal_distance_{key}" for key in ("mean", "min", "max", "share")} <= values.keys() and "cost_latent_distance" in values


def test_bad_input_at_the_start_is_one_line_and_status_2(start_node, tmp_path):
    other = write_bundle(tmp_path / "other", "reach")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"joints": ["elbow"]}))
    good = write_bundle(tmp_path / "good", "reach")
    negative = tmp_path / "negative.yaml"
    negative.write_text("critics: {effort: -1}\n")
    cases = {
        ("-p", f"model:={tmp_path / 'gone'}"): "is not a model bundle",
        ("-p", f"model:={other}"): "was trained for joints elbow",
        ("-p", f"model:={good}", "-p", "zones:=walls everywhere"): "zones must be a list",
        ("-p", f"model:={good}", "-p", "robot:=ur5"): "no arm description 'ur5'",
        ("-p", f"model:={good}", "-p", f"planner_file:={negative}"): "critic 'effort': weight is -1",
        ("-p", f"model:={good}", "-p", "runtime:=gpu"): "parameter 'runtime' is 'gpu', must be one of: auto, tensorrt",
    }
    for arguments, reason in cases.items():
        # One at a time: a process that leaves within milliseconds of another's start may lock that one up (eProsima/Fast-DDS, issue 6502).
        node = start_node(MODULE, *arguments)
        assert node.process.wait(30) == 2
        assert reason in node.output and node.output.count("\n") == 1, node.output


def test_a_learned_guardrail_is_told_frame_by_frame(start_node, follower, tmp_path, tmp_path_factory):
    """Its margin is 10 y - 5, and the follower's latents hold 10 y."""
    bundle = tiny_bundle(tmp_path_factory.getbasetemp())
    head = write_linear_head(tmp_path / "north", bundle, [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], -5.0)
    options = (f"model:={bundle}", f"guardrail_heads:={head}", f"steps:={STEPS}", "frame_timeout_s:=1.0", "resync_m:=0.2")
    node = start_node(MODULE, *(word for option in options for word in ("-p", option)))
    follower.wait_for("IDLE")
    wait_until(lambda: "margin_north" in follower.values, what="a margin of the head")
    tool = KINEMATICS.tool_point(follower.position)
    wait_until(lambda: float(follower.values["margin_north"]) == pytest.approx(10 * tool[1] - 5.0, abs=0.05), what="the margin of what is seen")
    assert follower.set("guardrail_heads", "")[0] is False
    assert node.stop() == 0


def test_a_head_of_another_model_is_said_in_one_line(start_node, tmp_path, tmp_path_factory):
    head = write_linear_head(tmp_path / "head", write_bundle(tmp_path / "other"), [1.0], 0.0)
    node = start_node(MODULE, "-p", f"model:={tiny_bundle(tmp_path_factory.getbasetemp())}", "-p", f"guardrail_heads:={head}")
    wait_until(lambda: node.process.poll() is not None, timeout_s=60.0, what="end of the node")
    assert "was fitted on another model" in node.output and "Traceback" not in node.output
