"""Only a machine that stood still gives a test another chance."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY, wait_until
from standstill import RERUNS, Watch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at the cores through Linux")

CONFTEST = """
import time
import pytest
from standstill import RERUNS, Watch
watch = Watch()
@pytest.fixture
def stand_still():
    return lambda: watch._notes.open("a").write(f"{time.monotonic() - 0.5} {time.monotonic()}\\n")
def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.flaky(reruns=RERUNS, condition=watch.stood_still))
def pytest_runtest_setup():
    watch.begin()
"""
TESTS = """
from pathlib import Path
def once_more(name):
    with Path(name).open("a") as file:
        file.write("x")
    return len(Path(name).read_text())
def test_that_fails_on_a_machine_that_runs():
    assert once_more("running") > 1
def test_that_fails_once_while_it_stands_still(stand_still):
    stand_still()
    assert once_more("still") > 1
def test_that_always_fails(stand_still):
    stand_still()
    assert once_more("always") > 10
"""


def watchers(watch: Watch) -> list[int]:
    assert watch.process is not None
    return [int(pid) for pid in Path(f"/proc/{watch.process.pid}/task/{watch.process.pid}/children").read_text().split()]


def test_a_core_that_stood_still_is_noted_and_one_that_ran_is_not():
    watch, failure = Watch(), AssertionError()
    watch.start()
    try:
        wait_until(lambda: len(watchers(watch)) == len(os.sched_getaffinity(0)), what="one watcher a core")
        time.sleep(0.1)
        began = time.monotonic()
        os.kill(watchers(watch)[0], signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(watchers(watch)[0], signal.SIGCONT)
        wait_until(lambda: bool(watch.pauses(began)), what="a note of the pause")
        assert any(pause > 0.45 for pause in watch.pauses(began)) and watch.stood_still(failure) and not watch.stood_still(None)
        noted = len(watch.pauses())
        watch.begin()
        assert not watch.stood_still(failure) or len(watch.pauses()) > noted, "a pause from before counts"
    finally:
        watch.close()
    assert watch.process is not None and watch.process.returncode is not None


def test_it_is_run_again_only_then_and_not_for_ever(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_three.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    path = os.pathsep.join([str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    ran = {name: len((tmp_path / name).read_text()) for name in ("running", "still", "always")}
    assert ran == {"running": 1, "still": 2, "always": 1 + RERUNS}, result.stdout
    assert "2 failed, 1 passed" in result.stdout and result.returncode == 1
