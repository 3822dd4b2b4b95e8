"""The guardrail's loop beside a planner that loads the cores: how regularly it runs, by its own clock and by the commands that arrive."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from trajectory_msgs.msg import JointTrajectory

from latent_mpc.bare_ticks import BareTicks, stolen_s
from latent_mpc.bringup import node_command
from latent_mpc.domains import quiet_domain
from latent_mpc.processes import NodeCommand, Processes
from ros_bridge.cdr import CdrReader
from ros_bridge.diagnostics import status_values

COMMANDS = "/joint_trajectory_controller/joint_trajectory"
LATE_MS = 20.0
_START_S = 60.0
_WARM_S = 2.0
# A command says when it was meant for, a bare tick when it came.
_TOGETHER_NS = 60_000_000


class GuardLoopError(RuntimeError):
    """The loop could not be measured, with the reason in one line."""


@dataclass(frozen=True)
class GuardLoop:
    """``late``: cycles that began more than 20 ms after the one before, counted by the guardrail while it tracked and before.

    ``command_gaps``: commands whose stamp lies more than 20 ms after that of the command before, counted by their receiver; what is lost on the way
    counts too. ``jitter_ms_*``: how far the time between two cycles is from 10 ms. ``stops``: times that the arm was braked although nothing was
    wrong. ``load``: threads that kept cores busy. ``bare_*``: of a loop of the same priority beside it that does nothing but wake up every 10 ms
    (:mod:`latent_mpc.bare_ticks`). ``gaps_with_bare_late``: gaps between commands within 60 ms of which it was late, too: the machine's, not ours.
    ``stolen_s``: what the host of a virtual machine took from its cores meanwhile.
    """

    seconds: float
    cores: int
    load: int
    priority: str
    cycles: int
    late: int
    command_gaps: int
    jitter_ms_p50: float
    jitter_ms_p99: float
    jitter_ms_max: float
    cycle_ms_p50: float
    cycle_ms_p99: float
    stops: int
    joint_gap_ms_p99: float
    bare_late: int
    bare_jitter_ms_p99: float
    bare_jitter_ms_max: float
    gaps_with_bare_late: int
    stolen_s: float

    @property
    def met(self) -> bool:
        """No missed cycle."""
        return self.late == 0

    def to_json(self) -> dict[str, object]:
        """For machines."""
        return {**asdict(self), "met": self.met}


def run_guard_loop(seconds: float, load: int | None = None, priority: str = "auto") -> GuardLoop:
    """Run the shipped guardrail for ``seconds`` with an ideal arm and a scripted planner, ``load`` threads of which do nothing but compute.

    Raises:
        GuardLoopError: the arm does not get going, or a node died.
        BringupError: a parameter file is missing.
    """
    cores = len(os.sched_getaffinity(0))
    load = cores if load is None else load
    domain = quiet_domain()
    commands = [
        NodeCommand("faults_arm", "latent_mpc.faults_arm_node"),
        NodeCommand("faults_planner", "latent_mpc.faults_planner_node", None, {"burn": load}),
        node_command("guardrail_node", auto_arm=True, priority=priority),
    ]
    environment = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    with tempfile.TemporaryDirectory() as logs:
        processes = Processes(commands, environment, Path(logs))
        try:
            return _listen(processes, domain, seconds, cores, load, priority)
        finally:
            processes.stop()


def _listen(processes: Processes, domain: int, seconds: float, cores: int, load: int, wish: str) -> GuardLoop:
    context = Context()
    rclpy.init(context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("guard_loop", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    said: dict[str, dict[str, str]] = {}
    state = ""
    stamps: list[int] = []

    def on_status(msg: DiagnosticStatus) -> None:
        nonlocal state
        state = msg.message
        said["guardrail"] = status_values(msg)

    def on_diagnostics(msg: DiagnosticArray) -> None:
        said.update({status.name: status_values(status) for status in msg.status})

    def on_command(payload: bytes) -> None:
        stamps.append(CdrReader(payload).stamp_ns())

    node.create_subscription(DiagnosticStatus, "/guardrail/status", on_status, 10)
    node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
    node.create_subscription(JointTrajectory, COMMANDS, on_command, QoSProfile(depth=100), raw=True)

    def spin(until_s: float) -> None:
        while (left := until_s - time.monotonic()) > 0.0:
            processes.check()
            executor.spin_once(timeout_sec=min(0.5, left))

    try:
        deadline = time.monotonic() + _START_S
        while state != "TRACKING" or "guardrail_node: footing" not in said:
            if state == "STOPPED":
                raise GuardLoopError(f"the guardrail stopped the arm before it was measured: {said['guardrail']['reason']}")
            if time.monotonic() > deadline:
                raise GuardLoopError(f"the arm does not follow plans within {_START_S:.0f} s; the guardrail says {state or 'nothing'}")
            spin(time.monotonic() + 0.1)
        spin(time.monotonic() + _WARM_S)
        before = dict(said["guardrail"])
        stamps.clear()
        stolen = stolen_s()
        bare_process = subprocess.Popen([sys.executable, "-m", "latent_mpc.bare_ticks", str(seconds), wish], stdout=subprocess.PIPE, text=True)
        spin(time.monotonic() + seconds)
        after, footing = said["guardrail"], said["guardrail_node: footing"]
        stolen = stolen_s() - stolen
        bare = BareTicks(**json.loads(bare_process.communicate(timeout=30.0)[0]))
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
    gaps = [b for a, b in itertools.pairwise(stamps) if b - a > LATE_MS * 1e6]
    return GuardLoop(
        seconds=seconds,
        cores=cores,
        load=load,
        priority=footing["priority"],
        cycles=int(after["cycles"]) - int(before["cycles"]),
        late=int(after["missed_cycles"]) - int(before["missed_cycles"]),
        command_gaps=len(gaps),
        jitter_ms_p50=float(footing["jitter_ms_p50"]),
        jitter_ms_p99=float(footing["jitter_ms_p99"]),
        jitter_ms_max=float(footing["jitter_ms_max"]),
        cycle_ms_p50=float(after["cycle_ms_p50"]),
        cycle_ms_p99=float(after["cycle_ms_p99"]),
        stops=int(after["brakings"]) - int(before["brakings"]),
        joint_gap_ms_p99=float(footing["joint_gap_ms_p99"]),
        bare_late=len(bare.late),
        bare_jitter_ms_p99=bare.jitter_ms_p99,
        bare_jitter_ms_max=bare.jitter_ms_max,
        gaps_with_bare_late=sum(any(abs(gap - late) < _TOGETHER_NS for late in bare.late) for gap in gaps),
        stolen_s=stolen,
    )
