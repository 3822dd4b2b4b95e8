"""What the launch files share. Needs ROS's ``launch``; everything that can be said without it lies in ``launch_arguments`` and ``launch_parameters``.

Policy, in one place:

- *Order.* Planner and guardrail are lifecycle nodes and are told not to start by themselves. The guardrail is configured and activated first, the
  planner when that is done: whoever may move the arm speaks only when whoever stops it listens, and a guardrail that refuses its limits or its scene
  ends everything before a plan is made.
- *Respawn.* Perception, planner and framing come back after a crash: without them the arm stands, and the guardrail has already seen to that. What a
  node refuses (exit status 2) would be refused again: that ends everything, with the node's own line above. The recorder comes back, too, with a
  folder of its own: it overwrites nothing, and no recording is worth the end of a motion.
- *Nothing outlives the launch file*, however that ends.
- *The guardrail is never respawned.* A new one would not know what the last one was doing, and would hide that it died. Everything shuts down, and
  ros2 launch returns 1. So does the end of the simulator.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launch.actions import DeclareLaunchArgument, OpaqueCoroutine, OpaqueFunction, RegisterEventHandler, SetEnvironmentVariable
from launch.event_handlers import OnProcessExit, OnProcessStart
from launch.events.process import ProcessExited
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.ros_adapters import get_ros_node
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState

from latent_mpc.bringup import MODULES, transport
from latent_mpc.launch_arguments import LaunchArgument
from latent_mpc.launch_parameters import overlay, shipped_parameters
from launch import Event, EventHandler, LaunchContext, LaunchDescription
from ros_bridge.exit_status import BAD_INPUT_STATUS
from ros_bridge.process import PARENT_VARIABLE

LIFECYCLE = ("guardrail_node", "planner_node")
"""Lifecycle nodes, in the order in which they are brought up."""

RESPAWNED = ("perception_node", "planner_node", "framing_node")
RECORDER = "recorder_node"
RESPAWN_DELAY_S = 1.0
_BRING_UP_S = 120.0
_PATIENCE_S = 3.0
_NEXT = {
    State.PRIMARY_STATE_UNCONFIGURED: (Transition.TRANSITION_CONFIGURE, "configure"),
    State.PRIMARY_STATE_INACTIVE: (Transition.TRANSITION_ACTIVATE, "activate"),
}
_NICENESS = {"recorder_node": 5}


class LaunchError(RuntimeError):
    """Why everything is shut down, in one line."""


def describe(arguments: Sequence[LaunchArgument], actions: Callable[[dict[str, str]], list[Any]]) -> LaunchDescription:
    """The launch description that declares ``arguments`` and performs what ``actions`` makes of their values."""
    declared = [
        DeclareLaunchArgument(argument.name, default_value=argument.default, description=argument.description, choices=argument.choices or None)
        for argument in arguments
    ]

    def perform(context: LaunchContext) -> list[Any]:
        asked = {argument.name: str(LaunchConfiguration(argument.name).perform(context)) for argument in arguments}
        return [*domain(asked), *actions(asked)]

    return LaunchDescription([*declared, OpaqueFunction(function=perform)])


def domain(asked: Mapping[str, str]) -> list[Any]:
    """Everything after it in the ROS domain that was asked for."""
    return [SetEnvironmentVariable("ROS_DOMAIN_ID", asked["domain"])] if asked.get("domain") else []


@dataclass
class Crew:
    """The nodes of one launch file: ``params`` is the user's parameter file, ``remaps`` hold for every node."""

    namespace: str = ""
    params: str = ""
    remaps: Sequence[tuple[str, str]] = ()
    _up: dict[str, asyncio.Event] = field(default_factory=dict)

    def actions(self, nodes: Mapping[str, Mapping[str, Any]]) -> list[Any]:
        """The actions that start ``nodes``: the parameters of each, which win over those of all files, by its name."""
        actions: list[Any] = []
        self._up = {name: asyncio.Event() for name in LIFECYCLE if name in nodes}
        for name, parameters in nodes.items():
            if name == RECORDER:
                actions += self._recording(parameters)
                continue
            node = self.node(name, parameters)
            if name in self._up:
                actions.append(RegisterEventHandler(OnProcessStart(target_action=node, on_start=self._on_start(name))))
            actions += [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=_on_exit(name))), node]
        return actions

    def node(self, name: str, parameters: Mapping[str, Any]) -> Node:
        """A node of ours, run by the Python that runs the launch file, from a checkout as well as from a colcon workspace."""
        values = {**shipped_parameters(name), **overlay(self.params, name, self.namespace), **parameters}
        if name in LIFECYCLE:
            values["autostart"] = False
        return Node(
            executable=sys.executable,
            arguments=["-m", MODULES[name]],
            exec_name=name,
            namespace=self.namespace,
            parameters=[{key: _typed(value) for key, value in values.items()}],
            # The framing node stands between the camera's names and ours, and is told both.
            remappings=[] if name == "framing_node" else list(self.remaps),
            output="screen",
            emulate_tty=True,
            prefix=f"nice -n {_NICENESS[name]}" if name in _NICENESS else None,
            # ros2 launch that is killed, or told to end by SIGTERM, leaves its processes behind; these end with it, the guardrail by braking.
            additional_env={PARENT_VARIABLE: str(os.getpid()), **transport(name)},
            respawn=name in RESPAWNED,
            respawn_delay=RESPAWN_DELAY_S,
        )

    def _recording(self, parameters: Mapping[str, Any], life: int = 1) -> list[Any]:
        """The recorder in its ``life``-th life, whose folder's name ends with that number, and what follows when it dies."""
        node = self.node(RECORDER, {**parameters, "output": parameters["output"] if life == 1 else f"{parameters['output']}-{life}"})

        def on_exit(event: ProcessExited, context: LaunchContext) -> list[Any] | None:
            if context.is_shutdown:
                return None
            if event.returncode != BAD_INPUT_STATUS:
                get_logger("launch").error(f"{RECORDER} has died (status {event.returncode}): the recording goes on in another folder")
                return self._recording(parameters, life + 1)
            if life == 1:
                raise LaunchError(f"{RECORDER} refuses what it was given; see its line above. Everything is shut down")
            get_logger("launch").error(f"{RECORDER} refuses to go on; nothing is recorded any more")
            return None

        return [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=on_exit)), node]

    def _on_start(self, name: str) -> Callable[[Any, LaunchContext], list[Any]]:
        path = f"{self.namespace.strip('/')}/{name}"
        after = [self._up[earlier] for earlier in self._up if LIFECYCLE.index(earlier) < LIFECYCLE.index(name)]
        # At every start, hence also after a respawn.
        return lambda event, context: [OpaqueCoroutine(coroutine=bring_up, args=[path, after, self._up[name]])]


class NodeIsActive(Event):
    """A lifecycle node was brought up; ``node`` is its name without namespace."""

    name = "latent_mpc.NodeIsActive"

    def __init__(self, node: str) -> None:
        self.node = node


def when_active(node: str, *actions: Any) -> EventHandler:
    """The handler that performs ``actions`` when the lifecycle node called ``node`` is active for the first time."""
    return EventHandler(matcher=lambda event: isinstance(event, NodeIsActive) and event.node == node, entities=list(actions), handle_once=True)


async def bring_up(context: LaunchContext, name: str, after: Sequence[asyncio.Event], done: asyncio.Event) -> None:
    """Configure and activate the node called ``name`` once all of ``after`` are set, and set ``done``.

    By its services, not by its transition events: an event that was published before this process was discovered is lost. And asked again and
    again: a request goes astray while DDS still believes in the killed process that had the name before.

    Raises:
        LaunchError: it refuses, or does not answer.
    """
    try:
        for earlier in after:
            await earlier.wait()
        await Lifecycle(context, name).activate()
    except asyncio.CancelledError:
        # Launch ends. It would take a cancelled task for its own, and leave the processes behind.
        return
    if not context.is_shutdown:
        get_logger("launch").info(f"{name} is active")
        done.set()
        await context.emit_event(NodeIsActive(name.rpartition("/")[2]))


class Lifecycle:
    """The lifecycle services of one node, asked from launch's event loop."""

    def __init__(self, context: LaunchContext, name: str) -> None:
        self._context = context
        self._name = name.lstrip("/")
        self._node = get_ros_node(context)
        self._deadline = time.monotonic() + _BRING_UP_S

    async def activate(self) -> None:
        """Configure and activate, from whatever state the node is in.

        Raises:
            LaunchError: it refuses, or does not answer.
        """
        get_state = self._node.create_client(GetState, f"/{self._name}/get_state")
        change_state = self._node.create_client(ChangeState, f"/{self._name}/change_state")
        try:
            refused = ""
            while not self._context.is_shutdown:
                answer = await self._ask(get_state, GetState.Request())
                if answer is None:
                    continue
                state = answer.current_state.id
                if state == State.PRIMARY_STATE_ACTIVE:
                    return
                if state not in _NEXT:
                    continue
                transition, word = _NEXT[state]
                if refused == word:
                    raise LaunchError(f"{self._name} refuses to {word}; see its lines above")
                answer = await self._ask(change_state, ChangeState.Request(transition=Transition(id=transition)))
                refused = word if answer is not None and not answer.success else ""
        finally:
            self._node.destroy_client(get_state)
            self._node.destroy_client(change_state)

    async def _ask(self, client: Any, request: Any) -> Any:
        """The answer, or None when there is none for a while."""
        answer = None
        patience = time.monotonic() + _PATIENCE_S
        while (answer is None or not answer.done()) and time.monotonic() < patience and not self._context.is_shutdown:
            if time.monotonic() > self._deadline:
                raise LaunchError(f"{self._name} does not answer within {_BRING_UP_S:.0f} s")
            if answer is None and client.service_is_ready():
                answer = client.call_async(request)
            await asyncio.sleep(0.02)
        if answer is None:
            return None
        if not answer.done():
            client.remove_pending_request(answer)
            return None
        return answer.result()


def _on_exit(name: str) -> Callable[[ProcessExited, LaunchContext], None]:
    def on_exit(event: ProcessExited, context: LaunchContext) -> None:
        if context.is_shutdown:
            return
        if event.returncode == BAD_INPUT_STATUS:
            raise LaunchError(f"{name} refuses what it was given; see its line above. Everything is shut down")
        if name not in RESPAWNED:
            raise LaunchError(f"{name} has died (status {event.returncode}): everything is shut down, and nobody guards the arm any more")

    return on_exit


def _typed(value: Any) -> Any:
    # As text: launch would read YAML where the node wants to read it itself.
    return ParameterValue(value, value_type=str) if isinstance(value, str) else value
