"""Surprise in the planner as it is shipped, over DDS: real pictures of a simulated arm that does what the plans say, encoded by the shipped model."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle
from conftest import wait_until
from latent_mpc.surprise_runs import Script, play

pytest.importorskip("rclpy")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from following import NO_FRAMES
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from arm_model import load_arm
from ros_bridge import qos
from ros_bridge.diagnostics import OK, WARN, status_values
from ros_bridge.images import latent_to_image
from ros_bridge.joints import Trajectory, joint_state_message, read_trajectory
from ros_bridge.stamps import header_at, now_ns
from sim.arm_world import BlockPose
from sim.tasks import PicturedGoalEnv, make_env
from world_model.bundle import record_surprise
from world_model.runtime import OnnxModel
from world_model.surprise import SurpriseCalibration, run_terms

MODULE = "planner_node.planner_node"
ARM = load_arm()
MODEL = Path(__file__).resolve().parents[1] / "models" / "push"
BLOCK = BlockPose(0.62, 0.12, 0.1)
# Far from the block, so that an arm that is put where the plan says never has to push.
START, GOAL = (np.array([x, y, 0.02]) for x, y in ((0.42, -0.05), (0.44, -0.2)))
EVERY_NS = 200_000_000
# A plan is heard after it begins, later still on a busy machine: a picture is taken of the past, of which all is known by then.
LATE_NS = 400_000_000
THRESHOLD = 0.45
# Joint states go out ten times as often as pictures: when so many have said where an arm was put, the planner knows it before it is shown.
TOLD_FIRST = 5
ATTEMPTS = 8


class Scene:
    """An arm that is where the newest plan says, in pictures five times a second whose stamps lie on a grid however busy this machine is."""

    def __init__(self, env: PicturedGoalEnv, model: OnnxModel) -> None:
        self.env, self.model = env, model
        self.block = BLOCK
        self.standing = env.kinematics.solve(START)
        self.plan: Trajectory | None = None
        self._told = TOLD_FIRST
        self._changing = threading.Lock()
        self.rows: list[tuple[float, ...]] = []
        self.surprise: list[DiagnosticStatus] = []
        self.statuses: list[DiagnosticStatus] = []
        self.results: list[DiagnosticStatus] = []
        self.labels: set[str] = set()
        self.frames: list[int] = []
        self.node = rclpy.create_node("scene")
        self._next_ns = now_ns(self.node) // EVERY_NS * EVERY_NS
        self._joints = self.node.create_publisher(JointState, "/joint_states", qos.JOINT_STATES)
        self._latents = self.node.create_publisher(Image, "/perception/latent", qos.LATENT)
        self._witness = self.node.create_publisher(Image, "/perception/witness", qos.LATENT)
        self._goals = self.node.create_publisher(Image, "/goal/latent", qos.GOAL)
        self.node.create_subscription(JointTrajectory, "/planner/plan", self._on_plan, qos.PLAN)
        self.node.create_subscription(Float64MultiArray, "/planner/surprise", self._on_surprise, qos.STATUS)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, qos.STATUS)
        self.node.create_subscription(DiagnosticStatus, "/planner/status", self.statuses.append, qos.STATUS)
        self.node.create_subscription(DiagnosticStatus, "/planner/result", self.results.append, qos.GOAL)
        self.node.create_timer(0.02, self._publish)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()

    def show(self, tool: np.ndarray, block: BlockPose) -> int:
        """A goal picture; drawn by a scene of its own, since this one is being filmed. Its stamp."""
        other = make_env("push")
        other.place(tool, block)
        latent = self.model.encode(other.render()[None])[0]
        other.close()
        stamp = now_ns(self.node)
        self._goals.publish(latent_to_image(latent, header_at(stamp)))
        return stamp

    def set_up(self, tool: np.ndarray, block: BlockPose) -> None:
        """Another episode: arm and block are elsewhere, both at once, and the joint states say so before the pictures do."""
        with self._changing:
            self.plan, self.standing, self.block, self._told = None, self.env.kinematics.solve(tool), block, 0

    def move_block(self, block: BlockPose) -> int:
        """The block is elsewhere all at once; the stamp of the first picture that shows it there."""
        with self._changing:
            self.block = block
            return self._next_ns

    def scored_since(self, stamp: int) -> list[int]:
        """Stamps of the scores of pictures from the one stamped ``stamp`` on; it is one of them unless it was lost, or one before that it needs."""
        return [ns for ns in (round(row[0] * 1e9 / EVERY_NS) * EVERY_NS for row in self.rows) if ns >= stamp]

    def pursue(self, tool: np.ndarray, block: BlockPose) -> tuple[str, str, list[tuple[float, ...]]]:
        """Show a goal; how its pursuit ended, why where that is said, and the scores of frames that were taken meanwhile."""
        stamp = self.show(tool, block)

        def ends() -> list[DiagnosticStatus]:
            return [result for result in self.results if status_values(result)["goal_stamp_ns"] == str(stamp)]

        wait_until(lambda: bool(ends()), what="the end of a pursuit", timeout_s=60)
        return ends()[0].message, status_values(ends()[0])["reason"], [row for row in self.rows if row[0] > stamp * 1e-9]

    def more_rows(self, count: int) -> list[tuple[float, ...]]:
        """The next ``count`` scores."""
        have = len(self.rows)
        wait_until(lambda: len(self.rows) >= have + count, what=f"{count} scores, have {len(self.rows) - have}", timeout_s=60)
        return self.rows[have:]

    def _at(self, ns: int) -> np.ndarray:
        if self.plan is None:
            return self.standing
        seconds = (ns - self.plan.stamp_ns) * 1e-9
        return np.array([np.interp(seconds, self.plan.times, column) for column in self.plan.positions.T])

    def _publish(self) -> None:
        with self._changing:
            self._show_now(now_ns(self.node))

    def _show_now(self, now: int) -> None:
        self._joints.publish(joint_state_message(ARM.joints, self._at(now), np.zeros(len(ARM.joints)), header_at(now)))
        self._told += 1
        if now < self._next_ns + LATE_NS or self._told < TOLD_FIRST:
            return
        self.env.world.place(self._at(self._next_ns), self.block)
        self.frames.append(self._next_ns)
        picture, header = self.env.render()[None], header_at(self._next_ns)
        self._latents.publish(latent_to_image(self.model.encode(picture)[0], header))
        self._witness.publish(latent_to_image(self.model.witness(picture)[0], header))
        self._next_ns += EVERY_NS

    def _on_plan(self, msg: JointTrajectory) -> None:
        with self._changing:
            self.plan = read_trajectory(msg, ARM.joints)

    def _on_surprise(self, msg: Float64MultiArray) -> None:
        self.labels.add(msg.layout.dim[0].label)
        self.rows.append(tuple(msg.data))

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        self.surprise += [status for status in msg.status if status.name == "planner_node: surprise"]


@pytest.fixture(scope="module")
def push() -> Iterator[PicturedGoalEnv]:
    env = make_env("push")
    yield env
    env.close()


@pytest.fixture(scope="module")
def calibrated(push, tmp_path_factory) -> Path:
    """The shipped bundle, calibrated for scale on one ordinary run; the threshold lies far from both sides."""
    bundle = tmp_path_factory.mktemp("calibrated") / "push"
    shutil.copytree(MODEL, bundle)
    model, run = OnnxModel(bundle), play(push, 11, Script("ordinary", 0))
    scale = np.nanmedian(run_terms(model, model.witness(run.frames), run.actions, (1, 2, 3)).changes, axis=0)
    record_surprise(bundle, SurpriseCalibration(tuple(scale.tolist()), THRESHOLD).to_json(), [])
    return bundle


@pytest.fixture
def scene(ros_context, push) -> Iterator[Scene]:
    opened = Scene(push, OnnxModel(MODEL))
    yield opened
    opened.close()


def test_an_ordinary_run_is_no_surprise_a_teleport_is_and_a_reset_is_none(start_node, scene, calibrated):
    node = start_node(
        MODULE, "-p", f"model:={calibrated}", "-p", "steps:=12", "-p", "frame_timeout_s:=10.0", "-p", "resync_m:=0.2", "-p", "stop_on_surprise:=true"
    )

    # The arm stands; then it goes where the picture shows it.
    at_rest = scene.more_rows(5)
    # Pictures that are lost on the way, or a machine that stands still, leave too few scores: then it goes back, and there again.
    for attempt in range(ATTEMPTS):
        left = scene.env.kinematics.tool_point(scene._at(scene.frames[-1]))
        end, reason, moving = scene.pursue((GOAL, START)[attempt % 2], BLOCK)
        assert end == "REACHED_HORIZON" or (end == "INTERRUPTED" and any(words in reason for words in NO_FRAMES)), f"{end}: {reason}"
        if end == "REACHED_HORIZON" and len(moving) >= 3:
            break
    assert end == "REACHED_HORIZON" and len(moving) >= 3 and scene.plan is not None
    scene.more_rows(3)
    assert np.linalg.norm(scene.env.kinematics.tool_point(scene._at(scene.frames[-1])) - left) > 0.05, "it did go"
    assert scene.labels == {"surprise"}
    for stamp, score, threshold, flag in scene.rows:
        assert threshold == pytest.approx(THRESHOLD) and flag == 0.0, f"{score:.2f} at {stamp}, {len(at_rest)} at rest"
    stamps = np.array([row[0] for row in scene.rows])
    assert np.abs(stamps[:, None] - np.array(scene.frames) * 1e-9).min(axis=1).max() < 1e-6, "each has its frame's stamp"
    assert {status.level for status in scene.surprise} == {OK} and int(status_values(scene.statuses[-1])["surprises"]) == 0

    # The block is suddenly elsewhere.
    moved, there = len(scene.rows), BlockPose(BLOCK.x - 0.06, BLOCK.y - 0.08, BLOCK.yaw)

    def flagged() -> bool:
        return any(row[3] == 1.0 for row in scene.rows[moved:])

    for attempt in range(ATTEMPTS):
        # Where the picture of that moment is lost on the way, its history begins with the block where it is now: then it moves again.
        moment = scene.move_block((there, BLOCK)[attempt % 2])
        wait_until(lambda moment=moment: flagged() or len(scene.scored_since(moment)) >= 5, what="a flag, or five scores without", timeout_s=60)
        if flagged():
            break
        assert moment not in scene.scored_since(moment), f"what was seen at {moment} was scored, and is no surprise: {scene.rows[-8:]}"
    assert flagged()
    wait_until(lambda: any(status.level == WARN for status in scene.surprise), what="a warning on /diagnostics")
    warning = next(status for status in scene.surprise if status.level == WARN)
    assert "not show what was expected" in warning.message and float(status_values(warning)["surprised_frames"]) >= 1
    wait_until(lambda: int(status_values(scene.statuses[-1])["surprises"]) == 1, what="a count in the planner's status")
    wait_until(lambda: scene.rows[-1][3] == 0.0, what="it passes: the block has been there since")

    # A simulator that sets up another episode puts arm and block elsewhere: nobody's history, nobody's surprise.
    heard, seen = len(scene.rows), int(status_values(scene.statuses[-1])["surprise_restarts"])
    scene.set_up(START + np.array([0.15, 0.1, 0.0]), BlockPose(0.5, -0.1, 0.5))
    wait_until(lambda: int(status_values(scene.statuses[-1])["surprise_restarts"]) > seen, what="a new history")
    scene.more_rows(4)
    assert [row[3] for row in scene.rows[heard:]] == [0.0] * (len(scene.rows) - heard)
    assert node.stop() == 0


def test_a_bundle_without_calibration_gives_raw_scores_and_says_so(start_node, scene, tmp_path):
    bundle = write_bundle(tmp_path / "plain", "push")
    scene.model = OnnxModel(bundle)
    start_node(MODULE, "-p", f"model:={bundle}")
    rows = scene.more_rows(3)
    assert all(np.isnan(row[2]) and row[3] == 0.0 and np.isfinite(row[1]) for row in rows)
    wait_until(lambda: any("not calibrated" in status.message for status in scene.surprise), what="a word about it")
    assert {status.level for status in scene.surprise} == {OK}
