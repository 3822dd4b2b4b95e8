"""A journal says to the bit what was taken in; who keeps one decides no differently; a counted search is the one that a clock had cut."""

from __future__ import annotations

import contextlib
import itertools
import json

import numpy as np
import pytest
from linear_world import FLAT, DescendableWorld, problem
from test_solver_family import GOAL, PILLAR, START, config

pytest.importorskip("rclpy")
from latent_mpc.offline_bag import Recorded, Timed
from latent_mpc.offline_guardrail import guarded

from arm_model import load_arm
from planner_node.assembly import build_solver
from planner_node.guard import Guard, GuardConfig, GuardError
from planner_node.guard_assembly import build_guard, retune
from planner_node.guardrail_parameters import GuardrailParameters
from planner_node.journal import Journal, JournalError, Kind, Moment, checksum, read_rows
from planner_node.journaled_guard import CAMERA, JournaledGuard, JournaledStaleness
from planner_node.plan_gate import PlanGate, PlanGateConfig, PlanRejectedError, Proposal
from planner_node.shield import Shield, ShieldConfig
from planner_node.solvers.solver import Deadline
from planner_node.staleness import Staleness, StalenessConfig
from ros_bridge.joints import JointReading
from ros_bridge.parameters import parameters_of

ARM = load_arm()
LIMITS = ARM.limits.scaled(0.5, 0.9, 0.5, margin=0.02)
STILL = np.zeros(len(ARM.joints))


def test_rows_come_back_to_the_bit_and_are_numbered():
    journal, rng = Journal(), np.random.default_rng(0)
    moments = [Moment(int(ns), float(s)) for ns, s in zip(rng.integers(0, 2**62, 50), rng.uniform(0, 1e7, 50) ** 1.7, strict=True)]
    for number, at in enumerate(moments[:30]):
        journal.note(Kind.FRAME, number, at)
    first, rows = journal.drain()
    assert first == 0 and [(e.kind, e.what, e.at) for e in read_rows(rows)] == [(Kind.FRAME, n, at) for n, at in enumerate(moments[:30])]
    for at in moments[30:]:
        journal.note(Kind.CYCLE, 7, at)
    first, rows = journal.drain()
    assert first == 30 and [entry.at for entry in read_rows(rows)] == moments[30:]
    assert journal.drain()[1].shape == (0, 4)


@pytest.mark.parametrize("rows", [np.zeros((2, 3), np.int64), np.array([[999, 0, 0, 0]])])
def test_what_is_no_journal_is_refused(rows):
    with pytest.raises(JournalError):
        read_rows(rows)


@pytest.mark.parametrize("name", ["actor_rollouts", "cem", "icem", "mppi", "predictive_sampling", "gradient", "mixture"])
def test_a_search_counted_in_iterations_is_the_one_that_a_clock_cut(name):
    """Two decisions each, at every place where a clock may cut: what a solver carries over, and its generator, are part of it."""
    for seconds in (0.0, 2.0, 3.5, 6.0, 1e9):
        ticks = itertools.count()

        def plans(deadlines, name=name):
            world = DescendableWorld(spread=0.8, bias=0.4)
            solver, made = build_solver(world, FLAT, (PILLAR,), config(name, seed=4)), []
            for deadline in deadlines:
                previous = made[-1].actions[1:] if made else None
                made.append(solver.plan(problem(world, START, GOAL, previous=previous), deadline()))
            return made

        by_clock = plans([lambda ticks=ticks, seconds=seconds: Deadline.after(seconds, lambda: float(next(ticks)))] * 2)
        counted = plans([lambda plan=plan: Deadline.counted(plan.iterations if plan.cut else None) for plan in by_clock])
        if seconds != 6.0:  # by then some have ended
            assert [plan.cut for plan in by_clock] == [seconds < 1e9] * 2
        for one, other in zip(by_clock, counted, strict=True):
            assert np.array_equal(one.actions, other.actions) and np.array_equal(one.latents, other.latents)
            assert (one.iterations, one.candidates, one.cost, one.cut) == (other.iterations, other.candidates, other.cost, other.cut)


def test_a_guard_with_a_journal_decides_as_one_without_and_its_calls_can_be_made_again():
    journal = Journal()
    shields = [Shield(ShieldConfig(LIMITS)) for _ in range(3)]
    plain = Guard(GuardConfig(), shields[0], PlanGate(PlanGateConfig()), Staleness(StalenessConfig()))
    noted = JournaledGuard(GuardConfig(), shields[1], PlanGate(PlanGateConfig()), JournaledStaleness(StalenessConfig(), journal), journal)
    again = Guard(GuardConfig(), shields[2], PlanGate(PlanGateConfig()), Staleness(StalenessConfig()))
    rng, readings, proposals = np.random.default_rng(1), {}, {}
    sent: dict[int, list] = {0: [], 1: []}
    position = ARM.home.copy()
    slot = 170_000_000_000
    for cycle in range(400):
        slot += 1 + int(rng.random() < 0.05)
        ros_ns, steady_s = slot * 10_000_000, 100.0 + cycle * 0.01 + rng.uniform(0, 1e-3)
        readings[ros_ns] = position.copy()
        jumped = cycle == 300
        if jumped:
            readings[ros_ns][2] += 1.0  # somebody put the arm elsewhere: the guard stops of itself, which is not to be noted
        if cycle % 20 == 0:
            way = np.outer(np.arange(0, 1.0, 0.05) * rng.uniform(-0.3, 0.3), np.ones(len(STILL)))
            proposals[ros_ns] = Proposal(ros_ns, np.arange(0, 1.0, 0.05), position + way, np.gradient(way, 0.05, axis=0))
        for number, guard in enumerate((plain, noted)):
            if cycle % 5 == 0:
                guard.streams.heard(CAMERA, ros_ns, steady_s)
            if cycle in (3, 350):
                if cycle == 350:
                    guard.reset()
                guard.arm(steady_s)
            guard.measured(readings[ros_ns], STILL, ros_ns, steady_s)
            if ros_ns in proposals:
                with contextlib.suppress(PlanRejectedError):
                    guard.propose(proposals[ros_ns], ros_ns, steady_s)
            sent[number].append(guard.cycle(slot, steady_s))
        if plain.set_point is not None:
            position = plain.set_point
    entries = read_rows(journal.drain()[1])
    assert Kind.STOP not in {entry.kind for entry in entries} and plain.counts.stops == noted.counts.stops == 1
    replayed = []
    for entry in entries:
        if entry.kind is Kind.CYCLE:
            replayed.append(again.cycle(entry.what, entry.at.steady_s))
        elif entry.kind is Kind.MEASURED:
            again.measured(readings[entry.what], STILL, entry.what, entry.at.steady_s)
        elif entry.kind is Kind.PLAN:
            with contextlib.suppress(PlanRejectedError):
                again.propose(proposals[entry.what], entry.at.ros_ns, entry.at.steady_s)
        elif entry.kind is Kind.CAMERA:
            again.streams.heard(CAMERA, entry.what, entry.at.steady_s)
        elif entry.kind is Kind.RESET:
            again.reset()
        elif entry.kind is Kind.ARM:
            again.arm(entry.at.steady_s)
    assert sum(command is not None for command in sent[0]) > 200
    for commands in (sent[1], replayed):
        for one, other in zip(sent[0], commands, strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert one.slot == other.slot and np.array_equal(one.braking.positions, other.braking.positions)
    with pytest.raises(GuardError):
        again.arm(0.0)


def test_settings_that_changed_in_the_middle_of_a_run_change_in_its_replay():
    """A watchdog that is made more patient lets an arm go on without joint states, there and then only."""
    began, patient = parameters_of(GuardrailParameters, {}), {"joint_timeout_s": 0.2}
    text = json.dumps(patient)
    guard, gate, _ = build_guard(began, ARM)
    slot, last, sent = 170_000_000_000, ARM.home.copy(), []
    for cycle in range(100):
        slot += 1
        steady_s = 100.0 + cycle * 0.01
        if cycle == 3:
            guard.arm(steady_s)
        if cycle == 40:
            guard.journal.note(Kind.SETTINGS, checksum(text), Moment(0, steady_s))
            retune(parameters_of(GuardrailParameters, patient), guard, gate)
        if not 50 <= cycle < 62:
            guard.measured(last, STILL, slot * 10_000_000, steady_s)
        command = guard.cycle(slot, steady_s)
        if command is not None:
            sent.append(command)
            last = command.braking.positions[0]
    assert guard.counts.brakings == 0 and len(sent) > 90
    entries = read_rows(guard.journal.drain()[1])

    def replayed(known):
        recorded = Recorded(start_ns=1, end_ns=slot * 10_000_000, guardrail_journal=entries, guardrail_settings=known)
        recorded.joints = [Timed(1, 1, JointReading(ARM.home, STILL, 1))]
        return guarded(*build_guard(began, ARM), recorded, [], lambda said: parameters_of(GuardrailParameters, dict(said)))

    same, unaware = replayed({checksum(text): patient}), replayed({})
    assert [command.slot for command in same.commands] == [command.slot for command in sent] and not same.absent
    assert all(np.array_equal(one.braking.positions, two.braking.positions) for one, two in zip(same.commands, sent, strict=True))
    missed = [any(reason.startswith("no joint states") for _, _, reason in found.states) for found in (same, unaware)]
    assert missed == [False, True] and unaware.absent == {"SETTINGS": 1}
