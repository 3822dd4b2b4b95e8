"""The processes of one scenario: started, killed, held up, started again."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from latent_mpc.bringup import SHIPPED_MODELS, find_shared, node_command
from latent_mpc.faults_scenario import Scenario
from latent_mpc.faults_topics import CAMERA_INFO, EVENTS, RELAYED, behind
from latent_mpc.processes import NodeCommand, NodeDiedError, NodeInputError, Processes, Value
from ros_bridge.transport import without_shared_memory
from sim.tasks import task_named

GUARDRAIL, RECORDER, PROOF = "guardrail_node", "recorder_node", "faults_recorder"
# Whoever shares memory with a node that is killed may freeze for a second: those who measure must not.
INSTRUMENTS = (PROOF, "faults_saboteur")
# What is proof: who commanded what, who heard what, who said what, and what was done to them.
RECORDED = (
    "/joint_trajectory_controller/joint_trajectory",
    "/joint_states",
    "/planner/plan",
    "/perception/latent",
    "/guardrail/status",
    "/planner/status",
    "/diagnostics",
    "/sim/ground_truth",
    EVENTS,
)


def commands_of(scenario: Scenario, folder: Path) -> list[NodeCommand]:
    """The nodes of ``scenario``; the bags go to ``folder``.

    Raises:
        BringupError: a parameter file or a model is missing.
    """
    carried = "['joint_states', 'plan']" if scenario.plans_carried else "['joint_states']"
    clock: dict[str, Value] = {"use_sim_time": True} if scenario.scripted_clock else {}
    saboteur, topics = "latent_mpc.faults_saboteur_node", ", ".join(f"'{topic}'" for topic in RECORDED)
    commands = [
        NodeCommand(PROOF, "latent_mpc.recorder_node", None, {"output": str(folder / "bag"), "topics": f"[{topics}]"}, remaps={"__node": PROOF}),
        NodeCommand("faults_saboteur", saboteur, None, {"links": carried, "clock": scenario.scripted_clock, "seed": scenario.seed}),
        _with(node_command(GUARDRAIL), scenario, clock),
    ]
    if scenario.arm == "ideal":
        commands.append(
            _with(
                NodeCommand("faults_arm", "latent_mpc.faults_arm_node"), scenario, clock, {RELAYED["joint_states"]: behind(RELAYED["joint_states"])}
            )
        )
    else:
        relayed = {topic: behind(topic) for topic in (RELAYED["joint_states"], RELAYED["camera"], CAMERA_INFO)}
        commands.append(_with(node_command("sim_node", task=scenario.task), scenario, {}, relayed))
        commands.append(
            NodeCommand("faults_camera", saboteur, None, {"links": "['camera']", "seed": scenario.seed}, remaps={"__node": "faults_camera"})
        )
    plan = {RELAYED["plan"]: behind(RELAYED["plan"])} if scenario.plans_carried else {}
    if scenario.planner == "scripted":
        options: dict[str, Value] = {"motion": scenario.motion, "rate_hz": scenario.plan_rate_hz}
        commands.append(_with(NodeCommand("faults_planner", "latent_mpc.faults_planner_node", None, options), scenario, clock, plan))
    elif scenario.planner == "real":
        model = str(find_shared(SHIPPED_MODELS[scenario.task]))
        commands.append(_with(node_command("perception_node", model=model), scenario, {}))
        commands.append(_with(node_command("planner_node", model=model, steps=task_named(scenario.task).steps), scenario, {}, plan))
    if scenario.recorder:
        commands.append(_with(node_command(RECORDER, output=str(folder / "bag-under-test")), scenario, {}))
    return commands


def _with(command: NodeCommand, scenario: Scenario, extra: Mapping[str, Value], remaps: Mapping[str, str] | None = None) -> NodeCommand:
    own = (scenario.parameters or {}).get(command.name, {})
    parameters = {**command.parameters, **extra, **own}
    return NodeCommand(command.name, command.module, command.parameter_file, parameters, command.niceness, dict(remaps or {}))


class Stage:
    """All nodes of a scenario. Use as a context manager: at its end every process is gone and its output lies in ``folder/logs``."""

    def __init__(self, scenario: Scenario, folder: Path, domain: int) -> None:
        self._commands = {command.name: command for command in commands_of(scenario, folder)}
        self._environment = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "PYTHONUNBUFFERED": "1"}
        self._logs = folder / "logs"
        self._running: dict[str, Processes] = {}
        self._starts: dict[str, int] = {}
        self._felled: set[str] = set()
        self._said: dict[str, str] = {}
        self.statuses: dict[str, int] = {}

    def __enter__(self) -> Stage:
        try:
            for name in self._commands:
                self.start(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes of the scenario."""
        return tuple(self._commands)

    def start(self, name: str) -> None:
        """Start a node, perhaps once more."""
        if name in self._running:
            self._end(name)
        self._starts[name] = self._starts.get(name, 0) + 1
        environment = dict(self._environment)
        if name in INSTRUMENTS:
            without_shared_memory(environment)
        self._running[name] = Processes([self._commands[name]], environment, self._logs / f"{self._starts[name]}")
        self._felled.discard(name)

    def kill(self, name: str) -> None:
        """SIGKILL, from which nobody recovers."""
        self._felled.add(name)
        os.kill(self._running[name].pid(name), signal.SIGKILL)

    def suspend(self, name: str, on: bool) -> None:
        """SIGSTOP, or let it go on."""
        os.kill(self._running[name].pid(name), signal.SIGSTOP if on else signal.SIGCONT)

    def limit_files(self, name: str, size: int) -> None:
        """From now on no file of the node may be longer than ``size`` bytes: to whoever writes, a full disk."""
        self._felled.add(name)
        resource.prlimit(self._running[name].pid(name), resource.RLIMIT_FSIZE, (size, size))

    @property
    def felled(self) -> tuple[str, ...]:
        """Nodes that were killed and have not been started again."""
        return tuple(sorted(self._felled))

    def starts(self, name: str) -> int:
        """How often a node was started."""
        return self._starts[name]

    def dead(self) -> dict[str, str]:
        """Nodes that ended although nobody felled them, with their last words."""
        found = {}
        for name, processes in self._running.items():
            if name in self._felled:
                continue
            try:
                processes.check()
            except (NodeInputError, NodeDiedError) as error:
                found[name] = str(error)
        return found

    def said(self) -> dict[str, str]:
        """All that each node printed."""
        return {name: self._said.get(name, "") + (self._running[name].output(name) if name in self._running else "") for name in self._commands}

    def _end(self, name: str) -> None:
        processes = self._running[name]
        self.statuses[name] = processes.stop()[name]
        self._said[name] = self._said.get(name, "") + processes.output(name)
        del self._running[name]

    def close(self) -> None:
        """Stop all nodes, side by side."""
        for name in self._running:
            with contextlib.suppress(ProcessLookupError):
                self.suspend(name, on=False)
        with ThreadPoolExecutor(max_workers=max(1, len(self._running))) as pool:
            list(pool.map(self._end, tuple(self._running)))
