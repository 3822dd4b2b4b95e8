"""Nodes as processes: what is started is stopped, and what dies says why."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import wait_until
from latent_mpc import processes as module
from latent_mpc.processes import NodeCommand, NodeDiedError, NodeInputError, Processes

OBEDIENT = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
print("ready", flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """``start(a=PROGRAM, ...)`` runs each program as a node of that name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    started = []

    def start(**programs):
        for name, text in programs.items():
            (tmp_path / f"program_{name}.py").write_text(text)
        running = Processes([NodeCommand(name, f"program_{name}") for name in programs], {}, tmp_path / "logs")
        started.append(running)
        return running

    yield start
    for running in started:
        running.stop()


def ready(running, *names):
    wait_until(lambda: all("ready" in running.output(name) for name in names), what="programs")


def test_arguments_carry_the_parameter_file_and_what_overrides_it(tmp_path):
    command = NodeCommand("sim_node", "sim.sim_node", tmp_path / "sim.yaml", {"task": "push", "gui": True})
    assert command.arguments()[1:] == [
        *("-m", "sim.sim_node", "--ros-args", "--params-file", str(tmp_path / "sim.yaml")),
        *("-p", "task:=push", "-p", "gui:=true"),
    ]


def test_stops_with_sigint_what_obeys_it_and_kills_what_does_not(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", ((signal.SIGINT, 5.0), (signal.SIGTERM, 0.2), (signal.SIGKILL, 2.0)))
    running = start(obedient=OBEDIENT, stubborn=STUBBORN)
    ready(running, "obedient", "stubborn")
    running.check()
    assert running.stop() == {"obedient": 0, "stubborn": -signal.SIGKILL}
    assert (tmp_path / "logs" / "obedient.log").read_text() == "ready\n"


def test_a_node_that_refuses_its_input_is_quoted(start):
    running = start(picky="import sys\nprint('something before')\nprint('no such model', file=sys.stderr)\nsys.exit(2)\n")
    with pytest.raises(NodeInputError, match=r"^no such model$"):
        wait_until(lambda: running.check())


def test_a_node_that_dies_is_named_with_its_last_lines(start):
    running = start(weak="raise RuntimeError('gave up')\n", obedient=OBEDIENT)
    with pytest.raises(NodeDiedError, match=r"^weak ended with status 1 \| .*gave up"):
        wait_until(lambda: running.check())


def test_a_killed_node_is_said_to_be_killed(start):
    running = start(victim="import os\nprint('ready', os.getpid(), flush=True)\nimport time\ntime.sleep(60)\n")
    ready(running, "victim")
    os.kill(int(running.output("victim").split()[1]), signal.SIGSEGV)
    with pytest.raises(NodeDiedError, match="victim was ended by SIGSEGV"):
        wait_until(lambda: running.check())


def test_nodes_do_not_outlive_a_starter_that_is_killed(tmp_path):
    told = tmp_path / "pid"
    (tmp_path / "program_a.py").write_text(f"import os, pathlib, time\npathlib.Path({str(told)!r}).write_text(f'{{os.getpid()}} ')\ntime.sleep(60)\n")
    starter = (
        "from pathlib import Path\nfrom latent_mpc.processes import NodeCommand, Processes\nimport time\n"
        f"p = Processes([NodeCommand('a', 'program_a')], {{}}, Path({str(tmp_path / 'logs')!r}))\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", starter], env={**os.environ, "PYTHONPATH": str(tmp_path)})
    wait_until(lambda: told.is_file() and told.read_text().endswith(" "), what="program")
    child = int(told.read_text())
    process.kill()
    process.wait()
    wait_until(lambda: not _alive(child), what="the end of the child")


def test_sigterm_unwinds_like_ctrl_c():
    with pytest.raises(KeyboardInterrupt), module.interrupted_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.0)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
