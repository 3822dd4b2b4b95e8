"""The bench times real parts beside a roof of the same run, and says what it leaves out."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
from latent_mpc import bench_contenders, bench_peers, bench_stable_worldmodel
from latent_mpc.bench import BenchConfig, BenchError, bench
from latent_mpc.bench_chain import chain_arm
from latent_mpc.bench_contenders import Contender, MissingPeerError, compare
from latent_mpc.bench_guard import guard_cycle
from latent_mpc.bench_lewm import CONTENDERS, CostsEntry, LewmBench, their_rollout
from latent_mpc.bench_own_dynamics import OwnDynamics
from latent_mpc.bench_report import bars, markdown, plots, text
from latent_mpc.bench_scaling import Series, memory, worst_doubling
from latent_mpc.bench_stable_worldmodel import LATENT, random_info
from latent_mpc.bench_timing import Stage, Times, time_stages, timing
from latent_mpc.bringup import find_shared
from latent_mpc.cli import run
from latent_mpc.policies import make_policy
from linear_world import LinearWorld

from arm_model import CollisionModel, Kinematics
from planner_node.assembly import PlannerConfig
from sim.tasks import make_env
from world_model.protocol import Context
from world_model.runtime import OnnxModel


def quiet(stage):
    return lambda done, total: None


@pytest.fixture
def without_peers(monkeypatch):
    """Where neither peer is installed; a machine that has them forgets them."""

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(bench_contenders, "version", missing)


@pytest.fixture
def little(monkeypatch):
    """A setting of the peers that takes no time."""
    monkeypatch.setitem(bench_peers.SETTINGS, "short", bench_peers.Setting(lewm=(1,), own=(2,), problems=2, lewm_problems=1, samples=24, horizon=3))


def test_every_stage_is_timed_beside_the_roof_of_the_same_run(without_peers, little, tmp_path):
    file = tmp_path / "nodes.json"
    file.write_text(json.dumps({"rates": [{"rate_hz": 10.0, "deadline_misses_percent": 0.5, "cores": {"sim_node": 0.25}}, {"rate_hz": 20.0}]}))
    result = bench(BenchConfig(find_shared("models/push"), rounds=2, nodes=file), quiet)
    machine = result["machine"]
    assert machine["roof_gflops_fp32"] > 0 and machine["roof_gops_int8"] > 0 and machine["memcpy_gbps"] > 0 and machine["cores"] >= 1
    stages = {stage["name"]: stage for stage in result["stages"]}
    assert {
        "encode one frame",
        "witness, one frame",
        "plan: along the actor",
        "plan: CEM 150 x 5",
        "shield, one cycle",
        "shield and collision check, one cycle",
        "preprocess: crop and scale 640 x 480",
        "environment step with picture",
        "guardrail, 56 x 10: collision",
    } <= stages.keys()
    assert not [name for name in stages if name.startswith("roof")]
    assert all(stage["ms"]["p99"] >= stage["ms"]["p50"] > 0 and stage["cpu_ms"] > 0 for stage in stages.values())
    rollout = stages["rollout, 64 candidates x 8 steps"]
    assert rollout["limit_ms"] == pytest.approx(rollout["mflop"] / machine["roof_gflops_fp32"])
    assert rollout["ratio_to_limit"] == pytest.approx(rollout["cpu_ms"] / rollout["limit_ms"])
    # CEM 150 x 5, eight steps ahead: 150 + 4 x 135 candidates in the rollout and under the critic, to say the least.
    assert stages["plan: CEM 150 x 5"]["mflop"] > 690 / 64 * rollout["mflop"]
    assert stages["shield, one cycle"]["limit_ms"] is None
    assert all(rate > 0 for rate in result["frames_per_second"].values()) and len(result["frames_per_second"]) == 3
    # Our own solvers are there without any peer, and who is not there has one line and no row.
    assert {row["name"] for row in result["peers"]} == {"latent-mpc: CEM", "latent-mpc: iCEM", "latent-mpc: MPPI"}
    assert all({"name", "version", "work", "cpu_ms", "ratio"} <= row.keys() for row in result["peers"])
    assert result["missing"] == [f"{name} is not installed; `make bench` installs the peers" for name in ("pytorch-mppi", "stable-worldmodel")]
    assert result["seed"] == 0 and result["versions"]["numpy"] == np.__version__
    assert json.loads(json.dumps(result, allow_nan=False)) == result

    told, page = text(result), markdown(result)
    assert "encode one frame" in told and "left out: stable-worldmodel is not installed" in told
    assert "| encode one frame |" in page and "| nodes | 10 Hz | 20 Hz |" in page and "| cores.sim_node | 0.25 |  |" in page
    assert "| deadline_misses_percent | 0.5 |  |" in page and "Left out: pytorch-mppi is not installed" in page
    assert {"stages.svg", "peers-1.svg"} == plots(result).keys()


def test_stages_take_turns():
    order = []
    stages = [Stage("a", lambda: order.append("a")), Stage("b", lambda: order.append("b"), repeats=2)]
    times = time_stages(stages, 3, lambda done, total: None)
    assert order == ["a", "b"] + ["a", "b", "b"] * 3  # once to warm up
    assert {name: found.wall.shape for name, found in times.items()} == {"a": (3,), "b": (3,)}
    assert all(np.all(found.wall >= 0) for found in times.values())


def test_a_limit_is_arithmetic_or_another_stage():
    times = {name: Times(np.array([1.0, 3.0, 2.0]) * seconds, np.array([1.0, 9.0, 1.0]) * seconds) for name, seconds in (("a", 1e-3), ("b", 4e-3))}
    counted = timing(Stage("a", print, flop=5e7), times, gflops=100.0)
    assert counted.limit_ms == pytest.approx(0.5) and counted.ratio_to_limit == pytest.approx(2.0) and counted.mflop == 50
    assert counted.ms["p50"] == pytest.approx(2.0) and counted.cpu_ms == pytest.approx(1.0)
    beside = timing(Stage("b", print, limit="a"), times, gflops=100.0)
    assert beside.limit_ms == pytest.approx(1.0) and beside.ratio_to_limit == pytest.approx(4.0)
    assert timing(Stage("a", print), times, 100.0).ratio_to_limit is None


def test_contenders_take_turns_on_every_problem_and_one_judge_looks_at_all():
    order = []

    def planner(name, value):
        def plan(problem):
            order.append((problem, name))
            return np.full((2, 1), value + problem, np.float32)

        return Contender(name, "somebody", "1.0", plan)

    rows = compare(
        "work", [planner("x", 1.0), replace(planner("y", 2.0), repeats=2)], 2, "x", lambda a, b: None, lambda i, actions: float(actions.sum())
    )
    assert order == [(0, "x"), (0, "y"), (0, "x"), (0, "y"), (0, "y"), (1, "x"), (1, "y"), (1, "y")]
    assert [row["cost"] for row in rows] == [3.0, 5.0] and rows[0]["ratio"] == 1.0 and [row["plans"] for row in rows] == [2, 4]


def own_dynamics(iterations=12):
    world = LinearWorld()
    latent = np.array([0.5, 0.0], np.float32)
    context = Context(np.tile(latent, (1, world.history, 1)), np.zeros((1, world.history - 1, world.action_dim), np.float32))
    goals = [np.array(goal, np.float32) for goal in ((0.58, 0.06), (0.44, -0.05))]  # two to three steps away
    return OwnDynamics(world, [(context, goal) for goal in goals], 128, iterations, 3, seed=0)


def test_what_an_answer_costs_is_worked_out_anew_and_actions_are_bounded():
    own = own_dynamics()
    still, wild = np.zeros((3, 2), np.float32), np.full((3, 2), 9.0, np.float32)
    assert own.cost(0, wild) == own.cost(0, np.ones((3, 2), np.float32)) != own.cost(1, wild)
    for contender in own.contenders("0"):
        for problem in range(len(own)):
            assert own.cost(problem, contender.plan(problem)) < 0.5 * own.cost(problem, still)


class StandIn:
    """A solver with stable-worldmodel's interface: it takes the best of one draw, and asks as that package's do."""

    def __init__(self, model, num_samples, n_steps, topk, seed):
        import torch

        self.model, self.samples, self.torch_gen = model, num_samples, torch.Generator().manual_seed(seed)

    def configure(self, *, action_space, n_envs, config):
        self.shape = (n_envs, self.samples, config.horizon, int(np.prod(action_space.shape[1:])) * config.action_block)

    def solve(self, info):
        import torch

        print("what it says while it works stays out of our output")
        drawn = torch.randn(*self.shape, generator=self.torch_gen)
        costs = self.model.get_cost(info, drawn)
        assert costs.shape == self.shape[:2]
        return {"actions": drawn[:, int(costs[0].argmin())]}


def test_a_solver_behind_the_peers_interface_minimises_our_cost(monkeypatch, capsys):
    monkeypatch.setattr(bench_stable_worldmodel, "part", lambda name: type("Module", (), {"CEMSolver": StandIn}))
    monkeypatch.setattr(bench_contenders, "version", lambda name: "0")
    own = own_dynamics()
    contender = own.theirs("CEM")
    found = [contender.plan(problem) for problem in (0, 1, 0)]
    assert found[0].shape == (3, 2) and np.array_equal(found[0], found[2]) and not np.array_equal(found[0], found[1])
    drawn = np.random.default_rng(5).standard_normal((128, 3, 2)).astype(np.float32)
    for problem, plan in enumerate(found[:2]):
        # The best of 128 draws beats nine of ten of another 128.
        assert own.cost(problem, plan) < np.quantile([own.cost(problem, other) for other in drawn], 0.1)
    assert capsys.readouterr().out == ""


class Shooting:
    """An MPPI with pytorch_mppi's interface: it steps states through its draws and averages them by cost."""

    def __init__(
        self,
        step,
        running,
        state_dim,
        noise_sigma,
        *,
        num_samples,
        horizon,
        lambda_,
        terminal_state_cost,
        step_dependent_dynamics,
        U_init,
        **bounds,
    ):
        assert step_dependent_dynamics
        self.step, self.running, self.terminal, self.wide = step, running, terminal_state_cost, noise_sigma.diag().sqrt()
        self.shape, self.temperature, self.bounds = (num_samples, *U_init.shape), lambda_, bounds
        self.U = U_init

    def command(self, state, shift_nominal_trajectory):
        import torch

        assert not shift_nominal_trajectory
        self.drawn = self.U + self.wide * torch.randn(self.shape)
        if self.bounds:
            self.drawn = self.drawn.clamp(self.bounds["u_min"], self.bounds["u_max"])
        states = [state.expand(self.shape[0], -1)]
        cost = torch.zeros(self.shape[0])
        for number in range(self.shape[1]):
            states.append(self.step(states[-1], self.drawn[:, number], number))
            cost += self.running(states[-1], self.drawn[:, number], number)
        self.costs = cost + self.terminal(torch.stack(states[1:], 1)[None], self.drawn[None])
        self.U = torch.einsum("k,kha->ha", torch.softmax(-self.costs / self.temperature, 0), self.drawn)


@pytest.fixture
def shooting(monkeypatch):
    """``Shooting`` in the place of pytorch_mppi; what it yields collects the instances."""
    made = []

    def make(*args, **kwargs):
        made.append(Shooting(*args, **kwargs))
        return made[-1]

    monkeypatch.setitem(sys.modules, "pytorch_mppi", type("Module", (), {"MPPI": staticmethod(make)}))
    monkeypatch.setattr(bench_contenders, "version", lambda name: "0")
    return made


def test_our_dynamics_one_step_at_a_time_are_our_dynamics(shooting):
    own = own_dynamics(iterations=3)
    plan = own.mppi().plan(1)
    assert own.cost(1, plan) < 0.6 * own.cost(1, np.zeros((3, 2), np.float32))
    costs = [own.cost(1, actions) for actions in shooting[0].drawn.numpy()]
    assert shooting[0].costs.numpy() == pytest.approx(costs, rel=1e-5)


class SmallLewm:
    """LeWM's interface over a linear predictor that weighs its window: what comes next depends on the last three latents and actions."""

    def __init__(self):
        import torch

        generator = torch.Generator().manual_seed(0)
        self.acts = 0.3 * torch.randn(10, LATENT, generator=generator)
        self.eyes = 0.05 * torch.randn(3 * 14 * 14, LATENT, generator=generator)
        self.predictor = type("Predictor", (), {"num_frames": 3})

    def action_encoder(self, actions):
        return actions @ self.acts

    def encode(self, info):
        return {"emb": info["pixels"][..., ::16, ::16].flatten(2) @ self.eyes}

    def predict(self, latents, actions):
        """After each of a window; only the last is asked for."""
        import torch

        return torch.tanh(latents.cumsum(1) / 2 + actions.cumsum(1))

    def rollout(self, info, candidates):
        """As stable-worldmodel writes it, naively."""
        import torch

        latents, actions = [info["emb"][0, :, 0]], self.action_encoder(candidates[0])
        for number in range(candidates.shape[2]):
            first = max(0, number - 2)
            latents.append(self.predict(torch.stack(latents[first:], 1), actions[:, first : number + 1])[:, -1])
        return {"predicted_emb": torch.stack(latents, 1)[None]}

    def get_cost(self, info, candidates):
        now, aim = (self.encode({"pixels": info[name][:, 0]})["emb"] for name in ("pixels", "goal"))
        last = self.rollout({"emb": now[None].expand(-1, candidates.shape[1], -1, -1)}, candidates)["predicted_emb"][0, :, -1]
        return ((last - aim[0]) ** 2).sum(-1)[None]


def test_every_way_to_run_lewm_is_asked_for_the_same_costs(shooting):
    import torch

    bench = LewmBench(SmallLewm(), 16, 2, 5, seed=0)
    assert bench.difference(CONTENDERS[0]) < 1e-6
    assert bench.difference(CostsEntry("twice", lambda lewm, horizon: lambda *args: 2 * their_rollout(lewm, horizon)(*args))) > 0.4
    contender = bench.mppi()
    assert contender.plan(0).shape == (5, 10)
    info = {name: value[:, None].expand(-1, 16, *value.shape[1:]) for name, value in random_info(0).items()}
    assert torch.allclose(shooting[0].costs, SmallLewm().get_cost(info, shooting[0].drawn[None])[0], rtol=1e-4)
    ours = bench.ours(CONTENDERS[0], "0").plan(0)
    assert ours.shape == (5, 10) and np.abs(ours).max() <= 1
    drawn = torch.from_numpy(np.stack([ours, np.zeros_like(ours)] * 8))[None]
    best, still = SmallLewm().get_cost(info, drawn)[0, :2]
    assert best < still


@pytest.mark.parametrize("name", [*bench_stable_worldmodel.SOLVERS, "pytorch_mppi"])
def test_the_peers_themselves_on_our_dynamics(name):
    own = own_dynamics()
    try:
        contender = own.mppi() if name == "pytorch_mppi" else own.theirs(name)
    except MissingPeerError as error:
        pytest.skip(str(error))
    assert own.cost(0, contender.plan(0)) < 0.6 * own.cost(0, np.zeros((3, 2), np.float32))
    assert "stable_worldmodel" not in sys.modules or hasattr(sys.modules["stable_worldmodel"], "World")


@pytest.mark.parametrize(("name", "horizon"), [("cem_300x30", 5), ("cem_300x30_h8", 8)])
def test_cem_of_the_published_size_takes_the_time_it_takes(name, horizon):
    env, model = make_env("push"), OnnxModel(find_shared("models/push"))
    policy = make_policy(name, env, model, PlannerConfig(), deadline_s=0.0, seed=0)
    observation, _ = env.reset(seed=0)
    policy.start(observation, env.task.steps, ())
    policy.act(observation)
    # Thirty elites are kept from one draw to the next.
    assert policy.plans[0].iterations == 30 and policy.plans[0].candidates == 300 + 29 * 270
    assert policy.plans[0].actions.shape == (horizon, 2) and not policy.plans[0].cut
    env.close()


def test_growth_is_counted_by_doublings():
    series = Series("candidates", "plan", (32, 64, 256), ("32", "64", "256"), (1.0, 2.0, 18.0))
    assert series.per_doubling() == pytest.approx([2.0, 3.0])
    rows = [{"of": "candidates", "per_doubling": series.per_doubling()}, {"of": "tokens", "per_doubling": [9.0]}]
    assert worst_doubling(rows) == pytest.approx(3.0) and worst_doubling([]) is None


def test_a_chain_has_as_many_joints_as_asked_for_and_stands_upright(tmp_path):
    arm = chain_arm(12, tmp_path)
    assert arm.home.size == 12 and np.allclose(Kinematics(arm).tool_point(np.zeros(12)), [0.0, 0.0, 1.2])
    # Of 13 links, neighbours and those with one between them are not looked at.
    assert len(CollisionModel(arm).pairs) == 13 * 12 // 2 - 12 - 11
    cycle = guard_cycle(arm)
    assert cycle() is not None and cycle() is not None


def test_memory_of_a_plan_is_measured_in_a_process_of_its_own():
    found = memory(find_shared("models/push"), "push", 0)
    few, many = found["plans"]
    assert many["iterations"] == 10 * few["iterations"] and few["peak_mb"] > few["loaded_mb"] > 50
    assert found["growth_mb"] == pytest.approx(many["plan_mb"] - few["plan_mb"])


def test_bars_stand_on_a_logarithmic_axis_where_they_are_far_apart():
    def widths(drawn):
        return [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', drawn)]

    far = bars([("latent-mpc: a & b", 1.0, None), ("c", 10.0, 1.0), ("d", 100.0, None)], "CPU ms")
    assert widths(far)[2] == pytest.approx(2 * widths(far)[1], abs=0.2)
    assert "a &amp; b" in far and far.startswith('<svg xmlns="')
    near = widths(bars([("a", 2.0, None), ("b", 3.0, None)], "CPU ms"))
    assert near[1] == pytest.approx(1.5 * near[0], abs=0.2)


def test_bad_input_is_one_line(tmp_path, capsys):
    for arguments, said in (
        (["--rounds", "0"], "rounds is 0, must be at least 1"),
        (["--peers", "all"], "peers is 'all'; choose none, short, published"),
        (["--document", str(tmp_path / "x.md")], "has no place for the table"),
        (["--nodes", str(tmp_path / "none.json")], "No such file"),
    ):
        assert run(["bench", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    (tmp_path / "nodes.json").write_text("[]")
    with pytest.raises(BenchError, match="holds no JSON object"):
        bench(BenchConfig(find_shared("models/push"), nodes=tmp_path / "nodes.json"), quiet)
