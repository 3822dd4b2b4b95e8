"""One scenario from start to end: nodes up, arm moving, faults in time, everything back to life, nodes down."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lifecycle_msgs.msg import Transition

from latent_mpc.bag import read_messages
from latent_mpc.faults_conductor import Conductor, ConductorError
from latent_mpc.faults_scenario import BY_THE_RUNNER, Fault, Scenario
from latent_mpc.faults_stage import GUARDRAIL, Stage
from latent_mpc.faults_topics import EVENTS

_TELEPORT_RAD = 0.05
_SETTLE_S = 0.3


@dataclass(frozen=True)
class Played:
    """What a run left: the bag, what nodes printed, who died unasked with their last words, how often each was started, how they ended."""

    bag: Path
    said: dict[str, str]
    dead: dict[str, str]
    starts: dict[str, int]
    statuses: dict[str, int]
    seconds: float


def play(scenario: Scenario, folder: Path, domain: int) -> Played:
    """Play ``scenario`` on ROS ``domain``; the bag and the logs go to ``folder``.

    Raises:
        ConductorError: the nodes do not even work before the first fault.
    """
    begun = time.monotonic()
    with Stage(scenario, folder, domain) as stage:
        with Conductor(domain, lambda: None) as conductor:
            try:
                _play(scenario, stage, conductor)
            except ConductorError as error:
                dead = stage.dead()
                raise ConductorError(f"{scenario.name}: {error}" + "".join(f"; {reason}" for reason in dead.values())) from error
            dead = stage.dead()
        starts = {name: stage.starts(name) for name in stage.names}
    return Played(folder / "bag", stage.said(), dead, starts, stage.statuses, time.monotonic() - begun)


def left_behind(folder: Path) -> Played:
    """What an earlier run left in ``folder``, as ``play`` gave it but for exit statuses.

    Raises:
        BagError: its recording cannot be read.
    """
    said: dict[str, str] = {}
    for log in sorted((folder / "logs").glob("*/*.log")):
        said[log.stem] = said.get(log.stem, "") + log.read_text()
    entries = [(entry.time_ns, json.loads(entry.message.data)) for entry in read_messages(folder / "bag", [EVENTS])]
    dead = next((json.loads(event["dead"]) for _, event in reversed(entries) if event["what"] == "over"), {"the run": "ended before it was over"})
    starts = {GUARDRAIL: max((int(event.get("guardrail_starts", 1)) for _, event in entries), default=0)}
    return Played(folder / "bag", said, dead, starts, {}, (entries[-1][0] - entries[0][0]) * 1e-9 if entries else 0.0)


def _play(scenario: Scenario, stage: Stage, conductor: Conductor) -> None:
    relays = 2 if scenario.arm == "sim" else 1
    conductor.wait_for_nodes(relays, 2 + scenario.recorder, latents=scenario.planner == "real")
    for repeat in range(scenario.repeats):
        _get_going(scenario, conductor, repeat)
        conductor.tell("repeat", repeat=repeat)
        _inject(scenario, stage, conductor)
        conductor.spin(max(0.0, scenario.window_s - scenario.longest_s))
        if scenario.recover:
            _recover(scenario, stage, conductor, repeat)
    conductor.tell("over", dead=json.dumps(stage.dead()))
    conductor.spin(_SETTLE_S)


def _get_going(scenario: Scenario, conductor: Conductor, repeat: int) -> None:
    """Arm, and unless it is to hold let the arm move."""
    if scenario.planner == "real":
        conductor.new_episode(scenario.seed + repeat)
    conductor.arm()
    if scenario.planner == "real":
        conductor.show_goal()
    if scenario.moving and scenario.planner != "none":
        conductor.wait_moving()
    else:
        conductor.until(lambda: conductor.guard_state in ("HOLDING", "TRACKING"), 10.0, "the guardrail does not hold")


def _inject(scenario: Scenario, stage: Stage, conductor: Conductor) -> None:
    """Let each fault begin and end in its time."""
    begun = time.monotonic()
    timeline: list[tuple[float, Callable[[], None]]] = []
    for fault in scenario.faults:
        timeline.append((fault.at_s, lambda fault=fault: _begin(fault, scenario, stage, conductor)))  # type: ignore[misc]
        timeline.append((fault.at_s + fault.for_s, lambda fault=fault: _end(fault, stage, conductor)))  # type: ignore[misc]
    for at, act in sorted(timeline, key=lambda entry: entry[0]):
        conductor.spin(max(0.0, begun + at - time.monotonic()))
        act()


def _begin(fault: Fault, scenario: Scenario, stage: Stage, conductor: Conductor) -> None:
    if fault.kind not in BY_THE_RUNNER:
        conductor.ask_saboteur(fault, on=True)
        return
    if fault.kind == "e_stop":
        conductor.call("/guardrail_node/stop", told=fault)
        return
    conductor.tell("fault", kind=fault.kind, target=fault.target)
    if fault.kind == "kill":
        stage.kill(fault.target)
    elif fault.kind == "suspend":
        stage.suspend(fault.target, on=True)
    elif fault.kind == "file_limit":
        stage.limit_files(fault.target, int(fault.amount))
    elif fault.kind == "sim_reset":
        conductor.reset_simulator(scenario.seed + 1000)
    elif fault.kind == "reactivate":
        conductor.transition(Transition.TRANSITION_DEACTIVATE)


def _end(fault: Fault, stage: Stage, conductor: Conductor) -> None:
    if fault.kind not in BY_THE_RUNNER:
        conductor.ask_saboteur(fault, on=False)
        return
    conductor.tell("end", kind=fault.kind, target=fault.target)
    if fault.kind == "suspend":
        stage.suspend(fault.target, on=False)
    elif fault.kind == "e_stop":
        answer = conductor.call("/guardrail_node/arm")
        conductor.tell("arm_answer", success=bool(answer.success), message=answer.message)
    elif fault.kind == "reactivate":
        conductor.teleport(_TELEPORT_RAD)
        conductor.spin(_SETTLE_S)
        conductor.transition(Transition.TRANSITION_ACTIVATE)
        conductor.spin(_SETTLE_S)


def _recover(scenario: Scenario, stage: Stage, conductor: Conductor, repeat: int) -> None:
    """Start what was killed, arm explicitly, and see the arm move again. That it does not is a finding, not the end of the run."""
    felled = [name for name in stage.felled if name != "recorder_node"]
    for name in felled:
        stage.start(name)
    try:
        if felled:
            conductor.wait_for_nodes(2 if scenario.arm == "sim" else 1, 2, latents=scenario.planner == "real")
            conductor.wait_for_joints()
        # A guardrail that still brakes comes to rest first.
        conductor.until(lambda: conductor.guard_state != "BRAKING", 5.0, "the guardrail brakes for ever")
        _get_going(scenario, conductor, 100 + repeat)
    except ConductorError as error:
        conductor.tell("not_rearmed", reason=str(error), guardrail_starts=stage.starts(GUARDRAIL))
        return
    conductor.tell("rearmed", guardrail_starts=stage.starts(GUARDRAIL))
