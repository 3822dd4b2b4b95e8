"""Cores and priority: what is asked for, what the kernel says that it did."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import write_bundle
from conftest import wait_until

from ros_bridge.scheduling import SchedulingError, keep_to, read_cores, schedule


@pytest.mark.parametrize(("text", "cores"), [("", set()), (" ", set()), ("0", {0}), ("0, 2-4", {0, 2, 3, 4}), ("3-3,1", {1, 3})])
def test_cores_are_named_singly_or_from_to(text, cores):
    assert read_cores(text) == cores


@pytest.mark.parametrize("text", ["all", "-1", "1-", "3-1", "0;1", "[0, 1]", "1.5"])
def test_cores_that_are_none_are_refused_in_one_line(text):
    with pytest.raises(SchedulingError, match="cpu_affinity is"):
        read_cores(text)


def test_a_core_that_the_machine_does_not_have_is_refused():
    with pytest.raises(SchedulingError, match=f"'{os.cpu_count()}', this machine has cores 0 to"):
        keep_to(str(os.cpu_count()))


def test_every_thread_runs_where_it_was_told_to_and_so_do_those_that_it_starts():
    core = max(os.sched_getaffinity(0))
    code = f"""
import os, threading
from pathlib import Path
from ros_bridge.scheduling import schedule
gate = threading.Event()
threading.Thread(target=gate.wait).start()
said = []
print(schedule("{core}", "none", said.append), said)
threading.Thread(target=gate.wait).start()
for entry in Path("/proc/self/task").iterdir():
    line = next(line for line in (entry / "status").read_text().splitlines() if line.startswith("Cpus_allowed_list"))
    print(line.split()[1])
gate.set()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [f"cores {core}; as any other process []", *[str(core)] * 3]


def test_what_is_not_permitted_is_said():
    said: list[str] = []
    obtained = schedule("", "none", said.append)
    assert obtained == "any core; as any other process" and not said
    code = """
import os
from ros_bridge import scheduling
def refuse(*_): raise PermissionError
os.sched_setscheduler = os.setpriority = refuse
os.sched_setaffinity = refuse
print(scheduling.schedule("0", "auto", lambda text: print("warned:", text)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("warned: scheduling:") == (2 if len(os.sched_getaffinity(0)) > 1 else 1)
    assert "auto is not permitted" in done.stdout


@pytest.mark.parametrize("module", ["world_model.perception_node", "planner_node.planner_node"])
def test_the_nodes_keep_to_the_cores_that_they_are_given_and_end_with_one_line_where_there_are_none(module, start_node, tmp_path):
    pytest.importorskip("rclpy")
    bundle = write_bundle(tmp_path / "untrained")
    core = min(os.sched_getaffinity(0))
    node = start_node(module, "-p", f"model:={bundle}", "-p", f"cpu_affinity:='{core}'")
    refused = start_node(module, "-p", f"model:={bundle}", "-p", "cpu_affinity:='9999'")

    def pinned():
        lists = []
        for task in Path(f"/proc/{node.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread may end while it is looked at
                lists += [line.split()[1] for line in (task / "status").read_text().splitlines() if line.startswith("Cpus_allowed_list")]
        return len(lists) > 3 and set(lists) == {str(core)}

    wait_until(pinned, 60.0, "all threads on one core")
    assert refused.process.wait(60.0) == 2, refused.output
    assert "cpu_affinity is '9999'" in refused.output and "Traceback" not in refused.output
    assert node.stop() == 0, node.output
