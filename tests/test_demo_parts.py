"""The demo's pure parts: walls, judging, output folders, domains, the summary."""

import json
import socket

import numpy as np
import pytest
from latent_mpc.bringup import MODULES, BringupError, find_shared, node_command, parameter_file
from latent_mpc.demo import judge
from latent_mpc.director import EpisodeRun, Placed
from latent_mpc.domains import is_quiet, quiet_domain
from latent_mpc.json_file import write_json
from latent_mpc.outcome import EpisodeOutcome, GuardrailCounts, Pass, Spread, Summary
from latent_mpc.staging import OutputError, staged
from latent_mpc.walls import DISC, GOAL_DISC, PUSH_DISC, PUSH_WALL, WALL, WALLED, clearance_m, stands_between, wall_between, wall_of, zones_text

from planner_node.guardrails.zone import read_zones
from sim.arm_world import BLOCK_HALF_M, BlockPose
from sim.tasks import Episode, task_named
from world_model.heads.rule import parse_rule

STEP = task_named("reach").tool_step
HALF_M = WALLED[WALL].half_m


class TestWalls:
    def test_stands_half_way_and_square_to_the_straight_line(self):
        start, goal = np.array([0.40, -0.10, 0.1]), np.array([0.60, 0.10, 0.3])
        wall = wall_between(start, goal, HALF_M, STEP)
        assert wall.centre == pytest.approx((0.5, 0.0)) and wall.half == HALF_M
        along = np.array([np.cos(wall.yaw), np.sin(wall.yaw)])
        assert along @ (goal - start)[:2] == pytest.approx(0.0, abs=1e-9)
        straight = np.linspace(start, goal, 50)
        assert clearance_m(wall, straight) < 0 and clearance_m(wall, straight[[0, -1]]) < 0
        assert min(clearance_m(wall, straight[:1]), clearance_m(wall, straight[-1:])) > 0.03 - 1e-9

    def test_needs_room_beside_it_and_a_way_round_it(self):
        assert wall_between(np.array([0.5, 0.0, 0.1]), np.array([0.5, 0.05, 0.3]), HALF_M, STEP) is None
        assert wall_between(np.array([0.5, -0.2, 0.1]), np.array([0.52, 0.2, 0.3]), HALF_M, STEP) is not None
        narrow = type(STEP)(0.04, 0.2, (0.45, -0.25, 0.06), (0.55, 0.25, 0.36))
        assert wall_between(np.array([0.5, -0.2, 0.1]), np.array([0.5, 0.2, 0.3]), HALF_M, narrow) is None

    def test_of_a_push_stands_before_the_tool_and_leaves_the_block_its_room(self):
        task = task_named("push-around")
        block, goal = BlockPose(0.56, 0.02, 0.0), BlockPose(0.64, 0.02, 0.0)
        seen = 0
        for seed in range(60):
            rng = np.random.default_rng(seed)
            tool = (float(rng.uniform(0.36, 0.72)), float(rng.uniform(-0.24, 0.24)), 0.02)
            wall = wall_of(PUSH_WALL, Episode("push-around", seed, tool, block, (0.6, 0.0, 0.02), goal), task.tool_step)
            if wall is not None:
                seen += 1
                standoff = np.array([block.x - 0.09, block.y])
                assert clearance_m(wall, np.linspace(tool, [*standoff, 0.02], 50)) < 0
                corners = np.array([[x, block.y + side] for x in np.linspace(block.x, goal.x, 30) for side in (-0.045, 0.045)])
                assert wall.signed_distance(corners).min() > 0.02
                assert wall.signed_distance(np.array([tool]))[0] > 0.02
        assert 5 < seen < 60

    def test_the_planner_reads_what_is_written(self):
        wall = wall_between(np.array([0.4, -0.2, 0.1]), np.array([0.5, 0.2, 0.3]), HALF_M, STEP)
        (read,) = read_zones(zones_text((wall,)))
        assert read == wall
        assert read_zones(zones_text(())) == ()


def run(distance=0.01, cut_short="", path=((0.4, 0.0, 0.1), (0.6, 0.0, 0.1))):
    return EpisodeRun(distance, 20, 4.0, cut_short, np.array(path), GuardrailCounts(400, 1, 0, 0))


PLACED = Placed(7, 0.2, 0.025, 20, 0.2, (0.4, 0.0, 0.1), (0.6, 0.0, 0.1), 1)


class TestJudge:
    def test_within_the_tolerance_is_reached(self):
        assert judge(PLACED, run(0.025), None) == EpisodeOutcome(7, True, 0.2, 0.025, 20, 4.0, "reached", None)
        assert judge(PLACED, run(0.026), None).outcome == "missed"

    def test_through_the_wall_is_not_reached(self):
        wall = wall_between(np.array([0.4, 0.0, 0.1]), np.array([0.6, 0.0, 0.1]), HALF_M, STEP)
        through = judge(PLACED, run(path=np.linspace([0.4, 0.0, 0.1], [0.6, 0.0, 0.1], 20)), wall)
        assert not through.success and through.outcome == "went through the wall" and through.clearance_m < 0
        around = judge(PLACED, run(path=[[0.4, 0.0, 0.1], [0.4, 0.2, 0.1], [0.6, 0.2, 0.1], [0.6, 0.0, 0.1]]), wall)
        assert around.success and around.clearance_m > 0

    def test_a_stop_is_not_reached_whatever_the_distance(self):
        stopped = judge(PLACED, run(0.001, "stopped: stop requested"), None)
        assert not stopped.success and stopped.outcome == "stopped: stop requested"


class TestStaging:
    def test_appears_whole(self, tmp_path):
        out = tmp_path / "runs" / "demo"
        with staged(out, "summary.json") as folder:
            (folder / "summary.json").write_text("{}")
            assert not out.exists()
        assert [p.name for p in out.iterdir()] == ["summary.json"] and [p.name for p in out.parent.iterdir()] == ["demo"]

    def test_or_not_at_all(self, tmp_path):
        with pytest.raises(KeyboardInterrupt), staged(tmp_path / "demo", "summary.json") as folder:
            (folder / "bag").mkdir()
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []

    def test_replaces_an_earlier_output_only_at_the_end(self, tmp_path):
        out = tmp_path / "demo"
        out.mkdir()
        (out / "summary.json").write_text("old")
        with pytest.raises(RuntimeError), staged(out, "summary.json") as folder:
            raise RuntimeError
        assert (out / "summary.json").read_text() == "old"
        with staged(out, "summary.json") as folder:
            (folder / "summary.json").write_text("new")
        assert (out / "summary.json").read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["demo"]

    def test_leaves_other_folders_alone(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("all I have")
        with pytest.raises(OutputError, match="not empty"), staged(tmp_path, "summary.json"):
            pass
        with pytest.raises(OutputError, match="not a folder"), staged(tmp_path / "thesis.tex", "summary.json"):
            pass
        with pytest.raises(OutputError, match="cannot write"), staged(tmp_path / "thesis.tex" / "demo", "summary.json"):
            pass
        assert (tmp_path / "thesis.tex").read_text() == "all I have"


def test_a_domain_with_a_listener_is_not_quiet():
    domain = quiet_domain()
    assert is_quiet(domain)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
        somebody.bind(("", 7400 + 250 * domain + 12))
        assert not is_quiet(domain)


@pytest.mark.parametrize("name", MODULES)
def test_every_node_has_a_parameter_file(name):
    assert f"{name}:" in parameter_file(name).read_text()
    assert node_command(name, task="push").arguments()[-1] == "task:=push"


def test_what_is_nowhere_is_said():
    with pytest.raises(BringupError, match="models/none does not exist"):
        find_shared("models/none")


def test_the_summary_has_the_keys_of_the_contract(tmp_path):
    episode = judge(PLACED, run(), None)
    result = Pass((episode, judge(PLACED, run(0.5), None)), 12.5, Spread.of([1.0, 2.0, 3.0]), Spread(), GuardrailCounts(10, 1, 2, 3))
    content = Summary("reach", "models/reach", result, limit_violations=0, bag="out/bag").to_json()
    write_json(tmp_path / "summary.json", content)
    content = json.loads((tmp_path / "summary.json").read_text())
    wanted = ("task", "episodes", "success_rate", "plan_rate_hz", "plan_ms", "frame_to_command_ms", "guardrail", "limit_violations", "bag")
    assert set(wanted) <= content.keys()
    assert {"seed", "success", "start_distance_m", "final_distance_m", "steps", "seconds", "outcome"} <= content["episodes"][0].keys()
    assert content["success_rate"] == 0.5 and content["plan_ms"]["p50"] == 2.0 and content["frame_to_command_ms"] == {"p50": None, "p99": None}
    assert content["guardrail"] == {"cycles": 10, "interventions": 1, "missed_cycles": 2, "stops": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


def test_a_disc_stands_in_the_way_or_on_the_goal():
    step = task_named("reach").tool_step
    rng = np.random.default_rng(3)
    seen = {DISC: 0, GOAL_DISC: 0}
    for seed in range(60):
        tool, goal = (tuple(rng.uniform(step.lower, step.upper)) for _ in range(2))
        episode = Episode("reach", seed, tool, None, goal, None)
        for task in seen:
            zone = wall_of(task, episode, step)
            if zone is None:
                continue
            seen[task] += 1
            assert zone.half == (0.0, 0.0) and zone.radius == WALLED[task].radius_m
            assert zone.signed_distance(np.array(tool)) > 0, "no episode starts inside"
            place = np.array(goal)[:2] if task == GOAL_DISC else (np.array(tool) + np.array(goal))[:2] / 2
            assert np.allclose(zone.centre, place)
            assert read_zones(zones_text((zone,))) == (zone,), "what the node is told is the same zone"
    assert min(seen.values()) > 20


def push_episodes(count: int) -> list[Episode]:
    """Drawn by hand: the tool, the block and its goal anywhere on the table."""
    rng = np.random.default_rng(5)
    low, high = np.array([0.38, -0.22]), np.array([0.70, 0.22])
    drawn = []
    for seed in range(count):
        tool, block, goal = rng.uniform(low, high, (3, 2))
        poses = [BlockPose(float(x), float(y), 0.0) for x, y in (block, goal)]
        drawn.append(Episode("push-around", seed, (*tool, 0.02), poses[0], (*goal, 0.02), poses[1]))
    return drawn


def test_a_disc_before_the_block_leaves_room_for_the_push():
    step, found = task_named("push-around").tool_step, 0
    for episode in push_episodes(300):
        disc = wall_of(PUSH_DISC, episode, step)
        if disc is None:
            continue
        found += 1
        block, goal, tool = (
            np.array(p) for p in ((episode.block.x, episode.block.y), (episode.goal_block.x, episode.goal_block.y), episode.tool[:2])
        )
        behind = block + (block - goal) / np.linalg.norm(block - goal) * 0.09
        assert disc.radius == WALLED[PUSH_DISC].radius_m and np.allclose(disc.centre, (tool + behind) / 2, atol=0.01), "half-way"
        line = np.linspace(block, goal, 50)
        assert disc.signed_distance(line).min() > 0.07 and disc.signed_distance(tool) >= 0.03 - 1e-9
    assert found > 20


def test_what_a_rule_forbids_is_in_the_way_of_some_episodes():
    """Recounted with circles and lines: the straight way enters it by more than 2 cm, both its ends and the block's way keep clear."""
    rule, centre, radius = parse_rule("tool in disc(0.54, -0.05, 0.05)"), np.array([0.54, -0.05]), 0.05
    inside = 0
    for episode in push_episodes(600):
        tool, block, goal = (
            np.array(p) for p in (episode.tool[:2], (episode.block.x, episode.block.y), (episode.goal_block.x, episode.goal_block.y))
        )
        behind = block + (block - goal) / np.linalg.norm(block - goal) * (BLOCK_HALF_M[0] + 0.045)

        def least(a: np.ndarray, b: np.ndarray) -> float:
            share = np.clip((centre - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
            return float(np.linalg.norm(a + share * (b - a) - centre)) - radius

        ends = min(least(tool, tool + 1e-9), least(behind, behind + 1e-9))
        expected = (least(tool, behind) + 0.02, ends - 0.03, least(block, goal) - 0.075)
        if min(abs(value) for value in expected) < 2e-3:
            continue  # how finely lines are sampled decides
        suits = expected[0] < 0 and expected[1] > 0 and expected[2] > 0
        assert stands_between(rule, episode) == suits
        inside += suits
    assert inside > 5
