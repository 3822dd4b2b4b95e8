"""The director among stand-ins for the nodes, over real DDS: whose word ends an episode."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

pytest.importorskip("rclpy")
from conftest import wait_until
from diagnostic_msgs.msg import DiagnosticStatus
from latent_mpc import director as module
from latent_mpc.director import Director, DirectorError, Placed
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray, Header
from std_srvs.srv import Trigger

from ros_bridge.diagnostics import status
from ros_bridge.images import array_to_image
from ros_bridge.qos import GOAL, LATENT, STATUS
from ros_bridge.stamps import stamp_of

OLD_NS, NEW_NS = 1_700_000_000_000_000_001, 1_700_000_000_000_000_257  # a double cannot tell them apart


class StandIns(Node):
    """A guardrail that holds, a simulator at rest, and a planner that still pursues the goal before when a new one is shown."""

    def __init__(self) -> None:
        super().__init__("stand_ins")
        self._latent = self.create_publisher(Image, "/perception/latent", LATENT)
        self._truth = self.create_publisher(Float64MultiArray, "/sim/ground_truth", STATUS)
        self._guardrail = self.create_publisher(DiagnosticStatus, "/guardrail/status", STATUS)
        self._planner = self.create_publisher(DiagnosticStatus, "/planner/status", STATUS)
        goal = self.create_publisher(Image, "/sim/goal_image", GOAL)
        goal.publish(array_to_image(np.zeros((4, 4, 3), np.uint8), Header(stamp=stamp_of(NEW_NS))))
        for name in ("stop", "reset"):
            self.create_service(Trigger, f"/guardrail_node/{name}", lambda _, response: setattr(response, "success", True) or response)
        self.refusals: list[str] = []
        self.create_service(Trigger, "/guardrail_node/arm", self._on_arm)
        self.create_subscription(Image, "/goal/image", self._on_goal, GOAL)
        self._coming: list[tuple[str, int, int]] = []
        self.create_timer(0.03, self._on_timer)

    def wait_for_clients(self) -> None:
        """A service drops its answer to a client that it has not found yet."""
        wait_until(lambda: all(self.count_clients(f"/guardrail_node/{name}") for name in ("reset", "arm")), what="clients that were found")

    def _on_arm(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = not self.refusals
        response.message = "" if response.success else self.refusals.pop(0)
        return response

    def _on_goal(self, _: Image) -> None:
        # As the planner says it: the old goal goes on for a little, is replaced, and then the new one is pursued.
        self._coming = [("PLANNING", OLD_NS, 7)] * 3 + [("REPLACED", OLD_NS, 7)] * 2 + [("PLANNING", NEW_NS, 1)] * 30 + [("REACHED_GOAL", NEW_NS, 4)]

    def _on_timer(self) -> None:
        self._latent.publish(Image())
        self._truth.publish(Float64MultiArray(data=[0.02, 0.5, 0.0, 0.1, 0.0, 0.0, 0.0]))
        self._guardrail.publish(status("guardrail", "HOLDING", {}))
        word, goal_ns, step = self._coming.pop(0) if self._coming else ("PLANNING", OLD_NS, 7)
        if not self._coming and word == "REACHED_GOAL":
            self._coming = [(word, goal_ns, step)]
        self._planner.publish(status("planner", word, {"goal_stamp_ns": goal_ns, "step": step, "plans": step}))


@pytest.fixture
def stand_ins(ros_context):
    node, executor = StandIns(), SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    yield node
    executor.shutdown()
    thread.join()
    node.destroy_node()


def test_the_goal_before_does_not_end_the_next_episode(stand_ins, monkeypatch):
    monkeypatch.setattr(module, "_START_S", 20.0)
    placed = Placed(0, 0.2, 0.02, 10, 0.2, (0.5, 0.0, 0.1), (0.5, 0.1, 0.1), NEW_NS)
    seen = []
    with Director(int(os.environ["ROS_DOMAIN_ID"]), lambda: None) as director:
        director._until(lambda: director._goal is not None, 20.0, lambda: "no goal picture")
        stand_ins.wait_for_clients()
        run = director.play(placed, lambda progress: seen.append(progress.step))
    assert run.cut_short == "" and run.steps == 4
    assert seen and set(seen) <= {1, 4}, "the old goal's step 7 is nobody's"


def test_arming_is_asked_for_again_while_what_refuses_it_may_pass_and_only_then(stand_ins):
    with Director(int(os.environ["ROS_DOMAIN_ID"]), lambda: None) as director:
        stand_ins.wait_for_clients()
        stand_ins.refusals = ["no joint state to arm at: none was heard yet", "cannot arm: the arm moves at 0.135 rad/s"]
        director._arm()
        assert not stand_ins.refusals
        stand_ins.refusals = ["cannot arm: joint 'a' is outside its limits"] * 2
        with pytest.raises(DirectorError, match=r"/guardrail_node/arm refused: cannot arm: joint 'a' is outside"):
            director._arm()
        assert len(stand_ins.refusals) == 1
