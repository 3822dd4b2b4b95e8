"""Frames to commands, out of a run that is written down by hand."""

from __future__ import annotations

import pytest
from latent_mpc.frame_log import FrameLog, pursuits
from latent_mpc.node_loop import deadline_misses

from planner_node.grid import stamp_of_slot
from planner_node.journal import Journal, Kind, Moment

MS = 1_000_000
START = stamp_of_slot(170_000_000_000)


def at(ms: float) -> int:
    return START + round(ms * MS)


class Run:
    """A camera of 20 Hz from 0 ms on, the goal taken in at 60 ms; ``plan`` has a frame become a plan and a command."""

    def __init__(self, frames: int) -> None:
        self.log = FrameLog()
        self.planner, self.guard = Journal(), Journal()
        for number in range(frames):
            self.log.pictures[at(50 * number)] = at(50 * number + 5)

    def goal(self, ms: float) -> None:
        self.planner.note(Kind.GOAL, 1, Moment(at(ms), 1e-3 * ms))

    def plan(self, frame_ms: float, plan_ms: float) -> None:
        self.log.latents[at(frame_ms)] = at(frame_ms + 7)
        self.planner.note(Kind.FRAME, at(frame_ms), Moment(at(frame_ms + 8), 0.0))
        self.planner.note(Kind.JOINTS, 0, Moment(at(frame_ms + 8), 0.0), [0.1] * 7)
        self.log.plans[at(frame_ms)] = at(plan_ms)
        self.guard.note(Kind.PLAN, at(frame_ms), Moment(at(plan_ms + 1), 0.0))

    def cycle(self, ms: float, sent_ms: float | None) -> None:
        self.guard.note(Kind.CYCLE, at(ms) // 10_000_000, Moment(0, 0.0))
        if sent_ms is not None:
            self.log.commands[at(ms)] = at(sent_ms)

    def found(self):
        for journal, rows in ((self.planner, self.log.planner_journal), (self.guard, self.log.guardrail_journal)):
            rows.append(journal.drain()[1])
        return pursuits(self.log)


def test_each_frame_of_a_pursuit_has_its_hops_and_misses_are_counted():
    run = Run(7)
    run.goal(60)
    run.plan(100, 125)
    run.cycle(130, 131.5)
    run.cycle(140, 141.5)  # the same plan again: the first command counts
    run.plan(200, 262)  # 150 was lost on the way; this one is late
    run.cycle(270, 271.5)
    run.plan(250, 273)
    run.plan(300, 279)  # overtook the one of 250 before a cycle
    run.cycle(280, 281.5)
    (pursuit,) = run.found()
    frames = {round((frame.stamp_ns - START) / MS): frame for frame in pursuit.frames}
    assert list(frames) == [100, 150, 200, 250, 300], "those before the goal are not of it"
    assert frames[100].ms == pytest.approx({"picture": 5, "latent": 7, "planner": 8, "plan": 25, "guardrail": 26, "command": 31.5})
    assert frames[150].ms == {"picture": 5, "latent": None, "planner": None, "plan": None, "guardrail": None, "command": None}
    assert frames[200].to_command_ms == pytest.approx(71.5)
    assert frames[250].to_command_ms is None and frames[250].ms["plan"] == pytest.approx(23)
    assert pursuit.seconds(0.05) == pytest.approx(0.25) and pursuit.plans == 4
    assert deadline_misses(pursuit.frames, 50.0) == 3 and deadline_misses(pursuit.frames, 100.0) == 2


def test_two_goals_are_two_pursuits_and_one_without_a_plan_is_none():
    run = Run(12)
    run.goal(60)
    run.plan(100, 120)
    run.goal(210)
    run.goal(220)
    run.plan(250, 270)
    run.plan(300, 320)
    found = run.found()
    assert [len(pursuit.frames) for pursuit in found] == [1, 2]
    assert [pursuit.begun_ns for pursuit in found] == [at(60), at(220)]


def test_a_run_that_nobody_wrote_down_has_no_pursuits():
    assert pursuits(FrameLog()) == []
