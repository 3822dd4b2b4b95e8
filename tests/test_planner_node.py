"""The planner as it is shipped, a process of its own, over DDS, with an arm that follows its plans on the other side."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from bundles import write_bundle
from conftest import wait_until
from learned_heads import write_linear_head
from tiny_runs import tiny_bundle

pytest.importorskip("rclpy")

from following import ARM, KINEMATICS, LATENT_DIM, Follower
from lifecycle_msgs.msg import Transition

from planner_node.guardrails.zone import Zone
from planner_node.journal import Kind
from ros_bridge.diagnostics import status_values
from ros_bridge.joints import Trajectory
from ros_bridge.stamps import now_ns, stamp_ns
from sim.tasks import task_named

TOOL_STEP = task_named("reach").tool_step
MODULE = "planner_node.planner_node"
STEPS = 6
EPISODE_S = STEPS * TOOL_STEP.period_s
# Steps of a pursuit that is to last until it is ended: longer than any machine takes to do that.
LONG = 500


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
    follower.meet()
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
    pursuit = follower.pursue(np.full(LATENT_DIM, 2.0), "REACHED_HORIZON")
    first = pursuit.plans
    assert len(first) >= 3
    assert follower.names == {ARM.joints}
    assert np.allclose(first[0].positions[0], pursuit.begun_at, atol=0.02), "the first plan starts where the arm stands"
    assert {plan.stamp_ns for plan in first} <= set(follower.frames), "a plan carries the stamp of its frame"
    assert [plan.stamp_ns for plan in first] == sorted(plan.stamp_ns for plan in first)
    for plan in first:
        assert_sound(plan)
    assert np.ptp(first[-1].positions[-3:], axis=0).max() < 1e-3, "the last one holds"
    assert any(np.ptp(plan.positions, axis=0).max() > 0.02 for plan in first), "the others moved"
    # The last one is of the first frame that lies an episode after the first, where a ten-thousandth of a second less counts too.
    lengths_s = [(plan.stamp_ns - first[0].stamp_ns) * 1e-9 for plan in first]
    assert lengths_s[-2] < EPISODE_S <= lengths_s[-1] + 2e-4
    began = next(number for number, entry in enumerate(follower.entries) if entry.kind is Kind.GOAL)
    passed = {stamp for stamp in follower.frames_of_use(follower.entries[began:], 1_000_000_000) if stamp < first[-1].stamp_ns}
    assert (max(passed) - first[0].stamp_ns) * 1e-9 < EPISODE_S + 2e-4, "no frame of use lies between"
    assert lengths_s[-1] < EPISODE_S + 1.0, "longer than that without a frame, and the pursuit is interrupted"

    values = pursuit.values
    assert values["step"] == values["steps"] == str(STEPS) and int(values["plans"]) >= 2
    assert float(values["plan_ms"]) > 0 and values["feasible"] == "true" and {"plan_rate_hz", "frame_age_ms", "cost"} <= values.keys()
    assert {status.message for status in pursuit.statuses} == {"PLANNING", "REACHED_HORIZON"} and follower.statuses[0].message == "IDLE"
    wait_until(lambda: len(follower.imagined) > 0, what="an imagined path")
    assert follower.imagined[-1].header.frame_id == ARM.base_frame and len(follower.imagined[-1].poses) > 1
    assert stamp_ns(follower.imagined[-1].header.stamp) in follower.frames

    wait_until(lambda: "planner_node: runtime" in follower.reports, what="a report on the runtime")
    said = follower.reports["planner_node: runtime"]
    runs = status_values(said)
    assert said.message == "networks on cpu" and runs["runtime_asked"] == "cpu" and runs["runtime_rollout"].startswith("cpu fp32 (first run ")
    assert "runtime_encoder" not in runs, "the planner never encodes"
    assert "rollout on cpu in fp32 (first run" in planner.output, "every graph ran before the first goal, and how long it took is in the log"

    held, sent = follower.plans[-1], len(follower.plans)
    follower.more_statuses()
    assert len(follower.plans) == sent, "nothing is planned after the horizon"
    second = follower.pursue(np.full(LATENT_DIM, -2.0), "REACHED_HORIZON")
    assert np.allclose(follower.plans[sent].positions[0], held.positions[-1], atol=0.02)
    assert np.allclose(second.plans[0].positions[0], second.begun_at, atol=0.02)
    assert planner.stop() == 0


def test_a_goal_has_a_result_that_a_program_can_read(planner, follower):
    """Replaced, cancelled, and pursued to the horizon: each goal ends once, with its own stamp."""
    assert follower.cancel() == (False, "no goal is pursued: IDLE")
    assert follower.set("steps", LONG) == (True, "")
    replaced = follower.show(np.full(LATENT_DIM, 2.0))
    wait_until(lambda: len(follower.plans) > 0, what="a plan")
    given_up = follower.show(np.full(LATENT_DIM, -2.0))
    wait_until(lambda: len(follower.results_of(replaced)) == 1, what="the result of the first goal")
    wait_until(lambda: any(plan.stamp_ns > given_up for plan in follower.plans), what="a plan for the second goal")
    asked_ns = now_ns(follower.node)
    assert follower.cancel() == (True, "CANCELED")
    wait_until(lambda: len(follower.results_of(given_up)) == 1, what="the result of the second goal")
    follower.wait_for("CANCELED")
    follower.more_statuses(2)
    held, sent = follower.plans[-1], len(follower.plans)
    settled = held.positions[-3:]
    # From full speed the pursuit still creeps by a milliradian or two in its last 0.1 s.
    assert np.ptp(settled, axis=0).max() < 5e-3, "the last thing that is sent holds"
    # From when it was asked for: how old the frame is that the hold carries the stamp of is the machine's business.
    stops_s = held.times[-1] - (asked_ns - held.stamp_ns) * 1e-9
    assert stops_s < max(plan.times[-1] for plan in follower.plans[:-1]) - 0.1, "it stops, and carries out no more of the plan"
    follower.more_statuses()
    assert len(follower.plans) == sent, "a goal that was given up is not planned for"
    assert follower.set("steps", STEPS) == (True, "")
    pursued = follower.pursue(np.full(LATENT_DIM, 1.0), "REACHED_HORIZON")

    results = [*follower.results_of(replaced), *follower.results_of(given_up)]
    assert [result.message for result in results] == ["REPLACED", "CANCELED"]
    last = pursued.result
    assert len(follower.results_of(int(last["goal_stamp_ns"]))) == 1
    assert [*(status_values(result)["code"] for result in results), last["code"]] == ["-2", "-1", "2"]
    assert replaced < given_up < int(last["goal_stamp_ns"]) and int(last["step"]) == STEPS
    # No less than the frames of the episode span, no more than went by here; six digits are told.
    assert EPISODE_S - 1e-3 <= float(last["seconds"]) <= pursued.took_s + 1e-3


def test_a_goal_waits_for_activation_and_may_be_cancelled_meanwhile(planner, follower):
    assert follower.set("steps", LONG) == (True, "")
    follower.show(np.full(LATENT_DIM, 2.0))
    follower.wait_for("PLANNING")
    assert follower.change_state(Transition.TRANSITION_DEACTIVATE)
    follower.wait_for("IDLE")
    wait_until(lambda: [result.message for result in follower.results] == ["CANCELED"], what="the result of the first goal")
    follower.show_until_heard(np.full(LATENT_DIM, 1.0))
    assert set(follower.more_statuses()) == {"IDLE"} and follower.cancel() == (True, "CANCELED")
    assert follower.change_state(Transition.TRANSITION_ACTIVATE)
    assert set(follower.more_statuses()) == {"IDLE"}, "the goal that waited was cancelled"
    assert follower.set("steps", STEPS) == (True, "")

    def show_first(goal: np.ndarray) -> int:
        assert follower.change_state(Transition.TRANSITION_DEACTIVATE)
        follower.wait_for("IDLE")
        stamp, sent = follower.show_until_heard(goal), len(follower.plans)
        assert set(follower.more_statuses()) == {"IDLE"} and len(follower.plans) == sent, "nobody pursues a goal without being active"
        assert follower.change_state(Transition.TRANSITION_ACTIVATE)
        return stamp

    assert follower.pursue(np.full(LATENT_DIM, -1.0), "REACHED_HORIZON", show_first).plans


def test_a_camera_that_falls_silent_ends_the_goal_and_zones_of_a_topic_survive_another_clearance(planner, follower):
    assert follower.set("steps", LONG) == (True, "")
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
    wait_until(lambda: any(len(message.markers) == 2 for message in follower.markers), what="a drawn zone")
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
    follower.meet()
    values = follower.pursue(np.full(LATENT_DIM, 2.0), "UNREACHABLE").result
    assert values["code"] == "-4" and values["stalled"] == "true" and int(values["step"]) < 100 and values["steps"] == "200"
    assert node.stop() == 0


def test_bad_input_is_refused_counted_and_survived(planner, follower, tmp_path):
    no_head = tmp_path / "objective.yaml"
    no_head.write_text("critics: {goal_cost: {head: neat}}\n")
    # Goals and latents of another size, and frames from a clock that is ahead.
    follower.show(np.zeros(LATENT_DIM + 1))
    wait_until(lambda: int(follower.values["rejected_inputs"]) >= 1, what="a refused goal")
    assert follower.state == "IDLE"
    follower.shift_ns = 10_000_000_000
    follower.show(np.full(LATENT_DIM, 2.0))
    follower.wait_for("PLANNING")
    refused = int(follower.values["rejected_inputs"])
    wait_until(lambda: int(follower.values["rejected_inputs"]) > refused + 3, what="refused frames from the future")
    wait_until(lambda: "in the future" in planner.output, what="a word about the future")
    follower.shift_ns = -3_000_000_000
    before, shifted_ns = len(follower.frames), now_ns(follower.node)

    def of_the_past() -> set[int]:
        shown = {stamp for stamp in follower.frames[before:] if stamp < shifted_ns}
        return shown & {entry.what for entry in follower.entries if entry.kind is Kind.FRAME}

    wait_until(lambda: len(of_the_past()) >= 3, what="frames of the past that were heard")
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
    pursuit = follower.pursue(np.full(LATENT_DIM, 3.0), "REACHED_HORIZON")
    wait_until(lambda: any(len(message.markers) == 2 for message in follower.markers), what="a marker for the zone")
    drawn = next(message for message in follower.markers if len(message.markers) == 2).markers[1]
    assert drawn.pose.position.x == pytest.approx(0.53) and drawn.scale.x == pytest.approx(0.06) and drawn.header.frame_id == ARM.base_frame
    assert pursuit.plans
    for plan in follower.plans:
        assert_sound(plan)
        assert fence.signed_distance(KINEMATICS.tool_points(plan.positions)).min() > 0.012
    # On a machine under load the search of one frame or another may come to nothing.
    values = next(values for values in map(status_values, reversed(pursuit.statuses)) if values["validation"] in ("success", "retry"))
    assert values["solver"] == "icem" and float(values["plan_margin_zone"]) >= 0
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
        assert node.process.wait(60) == 2
        assert reason in node.output and node.output.count("\n") == 1, node.output


def test_a_learned_guardrail_is_told_frame_by_frame(start_node, follower, tmp_path, tmp_path_factory):
    """Its margin is 10 y - 5, and the follower's latents hold 10 y."""
    bundle = tiny_bundle(tmp_path_factory.getbasetemp())
    head = write_linear_head(tmp_path / "north", bundle, [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], -5.0)
    options = (f"model:={bundle}", f"guardrail_heads:={head}", f"steps:={STEPS}", "frame_timeout_s:=1.0", "resync_m:=0.2")
    node = start_node(MODULE, *(word for option in options for word in ("-p", option)))
    follower.meet()
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
