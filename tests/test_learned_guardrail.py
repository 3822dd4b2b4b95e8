"""Learned guardrails in the search: judged on what is imagined, on a world where the latent is the tool's place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from bundles import write_bundle
from latent_mpc.cli import run
from latent_mpc.evaluate import Evaluation, play
from learned_heads import write_linear_head
from linear_world import LinearWorld, problem

from planner_node.assembly import PlannerConfig, build_solver
from planner_node.guardrails.learned import LearnedGuardrail
from planner_node.objective import Objective
from planner_node.plan import Candidates
from planner_node.solvers.cem import CemConfig
from planner_node.solvers.solver import Deadline
from sim.tasks import make_env
from world_model.bundle import read_manifest
from world_model.heads.onnx_head import OnnxHead
from world_model.runtime import OnnxModel


@dataclass(frozen=True)
class Disc:
    """Forbids latents within ``radius`` of ``centre``."""

    centre: tuple[float, float] = (0.5, 0.0)
    radius: float = 0.06
    name: str = "disc"

    def margins(self, latents):
        assert latents.ndim == 2 and latents.flags.c_contiguous
        return (np.linalg.norm(latents - np.array(self.centre), axis=1) - self.radius).astype(np.float32)


def candidates(*paths):
    latents = np.array(paths, np.float32)
    count, horizon, _ = latents.shape
    return Candidates(np.zeros((count, horizon, 2), np.float32), latents, np.zeros((count, horizon + 1, 3)))


def test_the_margin_is_the_least_over_what_is_imagined():
    objective = Objective([], [], [LearnedGuardrail(Disc())])
    asked = problem(LinearWorld(), (0.40, 0.0), (0.6, 0.0))
    through = [(0.44, 0.0), (0.50, 0.0), (0.56, 0.0)]
    around = [(0.44, 0.05), (0.50, 0.08), (0.56, 0.05)]
    scores = objective.score(asked, candidates(through, around))
    np.testing.assert_allclose(scores.margin, [-0.06, 0.08 - 0.06 if np.hypot(0.06, 0.05) > 0.08 else np.hypot(0.06, 0.05) - 0.06], atol=1e-6)
    assert list(scores.ranking()) == [1, 0]


def test_who_begins_inside_may_leave_but_not_go_deeper():
    objective = Objective([], [], [LearnedGuardrail(Disc())])
    asked = problem(LinearWorld(), (0.46, 0.0), (0.6, 0.0))
    out, stay, deeper = [(0.44, 0.0)], [(0.46, 0.0)], [(0.48, 0.0)]
    margin = objective.score(asked, candidates(out, stay, deeper)).margin
    np.testing.assert_allclose(margin, [0.02, 0.0, -0.02], atol=1e-6)


def test_without_learned_guardrails_nothing_changes():
    asked = problem(LinearWorld(), (0.40, 0.0), (0.6, 0.0))
    assert np.all(np.isinf(Objective([], []).score(asked, candidates([(0.5, 0.0)])).margin))


def test_what_was_not_imagined_is_infeasible():
    objective = Objective([], [], [LearnedGuardrail(Disc())])
    asked = problem(LinearWorld(), (0.40, 0.0), (0.6, 0.0))
    assert objective.score(asked, candidates([(np.nan, 0.0)], [(0.4, 0.0)])).margin[0] == -np.inf


@pytest.mark.parametrize("mode", ["planner", "cem"])
def test_the_arm_goes_round_what_a_head_forbids(mode):
    """In closed loop from one side of the disc to the other; without the head it goes straight through."""

    def play_through(heads):
        world = LinearWorld()
        config = PlannerConfig(mode=mode, solvers={"cem": CemConfig(samples=100, iterations=4, elites=10)}, heads=heads)
        solver = build_solver(world, world.tool_step, (), config)
        tool, previous, path = np.array([0.40, 0.01]), None, []
        for step in range(24):
            plan = solver.plan(problem(world, tuple(tool), (0.60, 0.0), steps_left=24 - step, previous=previous), Deadline.after(60.0))
            tool = plan.points[1, :2] if plan.feasible else tool
            previous = plan.actions[1:]
            path.append(tool)
        return np.array(path)

    straight, round_it = play_through(()), play_through((Disc(),))
    assert Disc().margins(np.ascontiguousarray(straight)).min() < -0.02
    assert Disc().margins(np.ascontiguousarray(round_it)).min() >= -1e-6
    assert np.linalg.norm(round_it[-1] - [0.60, 0.0]) < 0.03


def test_evaluation_counts_what_was_truly_forbidden(tmp_path):
    """A head that is blind, fitted to a rule that always holds: every frame counts. A person's labels tell nothing of the truth."""
    bundle = write_bundle(tmp_path / "bundle")
    env, model = make_env("reach"), OnnxModel(tmp_path / "bundle")
    env.reset(seed=1)
    for label, expected in (("tool_x > 0.0", env.task.steps), ("tool_x > 9", 0), ("labels.csv", None)):
        head = OnnxHead(write_linear_head(tmp_path / "head", bundle, [0.0], 1.0, label), model.manifest)
        evaluation = Evaluation(bundle, "reach", 1, (0,), planner=PlannerConfig(heads=(head,)))
        assert play("random", env.episode, env, model, evaluation).forbidden_steps == expected
    env.close()


def test_evaluate_refuses_a_head_of_another_model(tmp_path, capsys):
    bundle, other = write_bundle(tmp_path / "bundle"), write_bundle(tmp_path / "other", "push")
    head = write_linear_head(tmp_path / "head", other, [0.0], 1.0)
    assert run(["evaluate", "--model", str(bundle), "--task", "reach", "--guardrail-head", str(head), "--episodes", "1"]) == 2
    assert "was fitted on another model than 'untrained-reach'" in capsys.readouterr().err


def test_a_head_from_disk_is_a_guardrail(tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    guardrail = LearnedGuardrail(OnnxHead(write_linear_head(tmp_path / "north", bundle, [0.0, 1.0], -0.5), read_manifest(bundle)))
    latents = np.random.default_rng(0).standard_normal((4, 3, 8)).astype(np.float32)
    np.testing.assert_allclose(guardrail.margins(latents), latents[..., 1::2].sum(-1) - 0.5, atol=1e-5)
    assert guardrail.name == "north" and replace(PlannerConfig(), heads=(guardrail.head,)).heads
