"""A node as a process: start, spin, stop on a signal, and say in one line what was wrong with its input."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.node import Node

from ros_bridge.exit_status import BAD_INPUT_STATUS, OK_STATUS

PARENT_VARIABLE = "LATENT_MPC_PARENT"
"""Environment variable with the process id of a launch file that its nodes are not to outlive."""

_PR_SET_PDEATHSIG = 1
_LOOK_S = 0.5


class StartError(ValueError):
    """A lifecycle node refused to configure or to activate."""


def run_node(create: Callable[[], Node], args: Sequence[str] | None = None) -> int:
    """Run the node that ``create`` makes until SIGINT or SIGTERM; return the exit status of the process.

    0 after a signal; 2 with one line on stderr when ``create`` raises ``ValueError`` or the ROS arguments are malformed: bad input, no traceback.
    Anything else that is raised is a bug and keeps its traceback. ``node.destroy_node()`` is always called, also on a
    node whose constructor failed half-way: release files and threads there.
    Use as ``sys.exit(run_node(MyNode))``; ``args`` defaults to ``sys.argv``.
    """
    # rclpy's own handlers shut the context down, which ends the spin. Ours only keep Python from raising KeyboardInterrupt in the middle of that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    _end_with(os.environ.get(PARENT_VARIABLE, ""))
    try:
        rclpy.init(args=list(sys.argv if args is None else args))
    except Exception as error:
        # The classes differ between ROS distributions; at this point only the arguments can be wrong.
        return _bad_input(error)
    node: Node | None = None
    executor = SingleThreadedExecutor()
    try:
        node = create()
        # rclpy wakes the executor before it shuts the context down: one that looks in between would wait for ever, if nothing else happened.
        node.create_timer(_LOOK_S, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))
        executor.add_node(node)
        executor.spin()
    except ExternalShutdownException:
        pass
    except ValueError as error:
        if not rclpy.ok():
            return OK_STATUS  # a signal came in the middle of the start: no input is at fault
        if node is not None:
            raise
        return _bad_input(error)
    except Exception:
        # A callback that was publishing when the signal came finds its context gone.
        if rclpy.ok():
            raise
    finally:
        # Nothing runs any more in this one thread; waiting would be for coroutines that nobody resumes.
        executor.shutdown(timeout_sec=0.0)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        # A second Ctrl-C, such as ros2 launch sends after the terminal's own, is not to kill an interpreter that is ending anyway.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    return OK_STATUS


def autostart(node: LifecycleNode) -> None:
    """Configure and activate a lifecycle node.

    Raises:
        StartError: a transition failed. rclpy swallows what a transition callback raises, so check input in the constructor, not there.
    """
    for transition in (node.trigger_configure, node.trigger_activate):
        if transition() != TransitionCallbackReturn.SUCCESS:
            raise StartError(f"{node.get_name()}: {transition.__name__.removeprefix('trigger_')} failed")


def _end_with(parent: str) -> None:
    """Have the kernel send SIGTERM when the process that started this one is gone, if that is ``parent``: nothing runs on without its launch file."""
    if parent and sys.platform == "linux" and os.getppid() == int(parent):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _bad_input(error: Exception) -> int:
    print(" ".join(str(error).split()), file=sys.stderr)
    return BAD_INPUT_STATUS
