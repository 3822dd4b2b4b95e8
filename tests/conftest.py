"""Every test process has a ROS domain of its own, and no node that it started outlives it. What failed while the machine stood still is run again."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standstill import RERUNS, Watch

from planner_node.measured import NOTHING_TO_ARM_AT

REPOSITORY = Path(__file__).resolve().parents[1]
_DOMAINS = range(1, 102)  # above 101 the ports of DDS run into the ephemeral ports of Linux
_PR_SET_PDEATHSIG = 1


def claim_domain() -> int:
    """A domain that no other test process on this machine holds: the lock on its file lasts as long as this process."""
    for offset in range(len(_DOMAINS)):
        domain = _DOMAINS[(os.getpid() + offset) % len(_DOMAINS)]
        lock = os.open(Path(tempfile.gettempdir()) / f"latent-mpc-test-domain-{domain}.lock", os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        return domain
    raise RuntimeError("every ROS domain is taken by another test process")


os.environ["ROS_DOMAIN_ID"] = str(claim_domain())
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


_watch = Watch()


def pytest_sessionstart() -> None:
    _watch.start()


def pytest_unconfigure() -> None:
    _watch.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in [] if config.option.usepdb else items:  # whoever debugs a failure wants no second one
        item.add_marker(pytest.mark.flaky(reruns=RERUNS, condition=_watch.stood_still))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    _watch.begin()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    again, pauses = terminalreporter.getreports("rerun"), _watch.pauses()
    for report in again:
        terminalreporter.write_line(f"run again, since the machine stood still: {report.nodeid}")
    if again:
        terminalreporter.write_line(f"it stood still {len(pauses)} times, for {max(pauses, default=0.0):.2f} s at most")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class NodeProcess:
    """Python with ``arguments`` as a process of its own, in the domain of the test process."""

    def __init__(self, arguments: tuple[str, ...], log: Path) -> None:
        self.log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def stop(self, number: int = signal.SIGINT, timeout_s: float = 10.0) -> int:
        """Signal the process and return its exit status; kill it when it does not obey."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@pytest.fixture
def start_node(tmp_path) -> Iterator[Callable[..., NodeProcess]]:
    """``start_node("package.module", "-p", "name:=value", ...)`` starts a node with ROS arguments; all are stopped after the test."""
    started: list[NodeProcess] = []

    def start(module: str, *ros_arguments: str) -> NodeProcess:
        arguments = ("-m", module, *(("--ros-args", *ros_arguments) if ros_arguments else ()))
        node = NodeProcess(arguments, tmp_path / f"{module}-{len(started)}.log")
        started.append(node)
        return node

    yield start
    for node in started:
        node.stop()


@pytest.fixture(scope="session")
def ros_context() -> Iterator[None]:
    """rclpy, initialised once for the whole test process."""
    import rclpy

    rclpy.init()
    yield
    rclpy.try_shutdown()


def arm_by(call: Callable[[str], Any], timeout_s: float = 20.0) -> None:
    """Arm as an operator does, who asks again while the guardrail has heard no joint state; ``call`` takes the service's name.

    A driver that has only just been discovered, or that stood still for half a second on a machine under load, is refused.
    """
    deadline = time.monotonic() + timeout_s
    while not (answer := call("arm")).success:
        assert NOTHING_TO_ARM_AT in answer.message and time.monotonic() < deadline, answer


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0, what: str = "condition") -> None:
    """Poll until ``condition`` holds. The limit is for a machine under load, not a claim about speed."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not hold within {timeout_s} s")
        time.sleep(0.01)
