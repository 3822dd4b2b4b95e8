"""A journal cut at a goal: each half planned by itself, in a process of its own, gives what the whole gives."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

pytest.importorskip("rclpy")

from latent_mpc import offline_planner
from latent_mpc.demo import DemoConfig, run_demo
from latent_mpc.offline_events import Event, Stretch, halves, journaled
from latent_mpc.offline_planner import PlannerReplay
from latent_mpc.offline_replay import ReplayConfig, write_output
from latent_mpc.offline_replay import replay as replay_bag
from latent_mpc.side_by_side import side_by_side
from rich.console import Console

from planner_node.journal import Entry, Kind, Moment


def event(kind, what=0, iterations=None, readings=()):
    return Event(kind, what, Moment(what, 0.0), tuple(Moment(0, at) for at in readings), iterations)


ACTIVE, JOINTS = event(Kind.ACTIVATE), event(Kind.JOINTS, 7)


def searches(count):
    return [event(Kind.FRAME, number, iterations=0, readings=(1.0, 1.25)) for number in range(count)]


def test_the_cut_is_at_the_goal_that_leaves_as_many_searches_on_either_side():
    goals = [event(Kind.GOAL, number) for number in (100, 200, 300)]
    zones, settings = event(Kind.ZONES, 5), event(Kind.SETTINGS, 6)
    events = [ACTIVE, JOINTS, goals[0], zones, *searches(2), event(Kind.JOINTS, 8), goals[1], settings, *searches(6), event(Kind.JOINTS, 9), goals[2]]
    events += searches(9)
    earlier, later = halves(events, lambda _: True)
    assert (*earlier.events, *later.events) == tuple(events) and later.events[0] is goals[2] is earlier.until
    assert [(kept.kind, kept.what) for kept in later.before] == [(Kind.ACTIVATE, 0), (Kind.ZONES, 5), (Kind.SETTINGS, 6), (Kind.JOINTS, 9)]
    assert later.took_s == (0.25,) * 8 and earlier.before == earlier.took_s == () and later.until is None
    nearer = halves(events, lambda what: what is not goals[2])
    assert nearer[1].events[0] is goals[1], "a goal without a picture begins nothing"


@pytest.mark.parametrize(
    "events",
    [
        [ACTIVE, JOINTS, event(Kind.GOAL), *searches(4)],
        [JOINTS, event(Kind.GOAL), ACTIVE, *searches(4), event(Kind.GOAL), *searches(4)],
        [ACTIVE, event(Kind.GOAL), JOINTS, *searches(4), event(Kind.GOAL), *searches(4)],
        [ACTIVE, JOINTS, event(Kind.GOAL), *searches(4), event(Kind.DEACTIVATE), event(Kind.GOAL), *searches(4)],
    ],
    ids=["one goal", "before the node is active", "before the arm is heard", "after it was deactivated"],
)
def test_where_a_goal_waits_or_is_the_only_one_nothing_is_cut(events):
    assert halves(events, lambda _: True) == (Stretch(tuple(events)),)


def test_looks_at_the_clock_belong_to_the_event_before_them():
    entries = [Entry(Kind.GOAL, 1, Moment(1, 1.0)), Entry(Kind.FRAME, 2, Moment(2, 2.0)), Entry(Kind.READING, 0, Moment(3, 3.0))]
    entries += [Entry(Kind.SEARCH, 4, Moment(4, 4.0)), Entry(Kind.TICK, 0, Moment(5, 5.0))]
    goal, frame, tick = journaled(entries)
    assert (goal.readings, goal.iterations, tick.iterations) == ((), None, None)
    assert (frame.readings, frame.iterations) == ((Moment(3, 3.0),), 4)


def test_calls_side_by_side_run_in_processes_of_their_own_and_say_what_went_wrong():
    first, second = side_by_side([os.getpid, os.getpid])
    assert first == os.getpid() != second

    def fail():
        raise ValueError("the second half is no good")

    with pytest.raises(ValueError, match="no good"):
        side_by_side([os.getpid, fail])
    with pytest.raises(ChildProcessError, match="ended with status 3"):
        side_by_side([os.getpid, lambda: os._exit(3)])


def test_a_run_of_two_goals_is_the_same_in_two_processes_in_one_and_uncut(tmp_path, monkeypatch):
    run_demo(DemoConfig("reach", 2, 3, tmp_path / "demo", report=False), Console(quiet=True))
    config = ReplayConfig(tmp_path / "demo" / "bag")
    cuts, whole = [], halves

    def noted(events, known):
        cuts.append(whole(events, known))
        return cuts[-1]

    monkeypatch.setattr(offline_planner, "halves", noted)
    found = replay_bag(config)
    assert [len(cut) for cut in cuts] == [2] and len(found.proposals.results) == 2
    assert all(any(event.iterations is not None for event in stretch.events) for stretch in cuts[0])
    assert all(agreement.same for agreement in found.agreements), found.agreements
    write_output(tmp_path / "forked", found)
    forked = PlannerReplay.run
    monkeypatch.setattr(PlannerReplay, "run", lambda self, *given: forked(replace(self, forked=False), *given))
    write_output(tmp_path / "inline", replay_bag(config))
    monkeypatch.setattr(offline_planner, "halves", lambda events, _: (Stretch(tuple(events)),))
    uncut = replay_bag(config)
    write_output(tmp_path / "uncut", uncut)
    assert len(cuts) == 2 and (tmp_path / "forked").read_bytes() == (tmp_path / "inline").read_bytes() == (tmp_path / "uncut").read_bytes()
    assert (found.proposals.searches, found.proposals.words) == (uncut.proposals.searches, uncut.proposals.words)
