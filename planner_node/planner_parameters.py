"""What can be set on the planner node."""

from __future__ import annotations

from dataclasses import dataclass

from planner_node.assembly import MODES
from planner_node.episode import ProgressConfig
from planner_node.guardrails.zones_in_force import read_zone_set
from planner_node.planner_file import planner_config
from ros_bridge.parameters import parameter
from ros_bridge.scheduling import WISHES, read_cores
from world_model.runtimes.config import PRECISIONS, RUNTIMES, RuntimeConfig


@dataclass(frozen=True)
class PlannerParameters:
    """Parameters of the planner node.

    ``robot``, ``model``, ``guardrails``, ``guardrail_heads``, ``threads``, ``runtime``, ``precision``, ``engine_cache``, ``cpu_affinity``,
    ``priority``, ``autostart`` and ``position_margin`` are fixed at the start; ``mode``, ``solver``, ``planner_file``, ``zones``, ``clearance_m``,
    ``steps`` and ``seed`` take effect with the next goal, the others at once. Zones from ``/planner/zones`` take effect at once and stay in force,
    in the place of the parameter's, until that is set, be it to what it was.
    """

    robot: str = parameter("panda_stick", "name of a shipped arm, or path of an arm description in YAML", fixed=True)
    model: str = parameter("models/push", "folder of the model bundle", fixed=True)
    runtime: str = parameter("auto", "what runs the networks: auto tries TensorRT, CUDA, the CPU; docs/runtimes.md", choices=RUNTIMES, fixed=True)
    precision: str = parameter("fp32", "precision of the networks, of those that the bundle has in it", choices=PRECISIONS, fixed=True)
    engine_cache: str = parameter("", "folder of TensorRT's engines; by default latent-mpc/engines in the user's cache", fixed=True)
    autostart: bool = parameter(True, "configure and activate without being asked", fixed=True)
    mode: str = parameter("planner", "planner: searches along the actor; actor: the actor alone; cem: searches without the actor", choices=MODES)
    solver: str = parameter("", "name of a solver, in the place of the one that the mode or the planner file names; see docs/solvers.md")
    planner_file: str = parameter("", "YAML with solver, critics, weights and settings, such as launch/config/objective.yaml")
    steps: int = parameter(30, "actions that an episode may take before the arm holds", at_least=1, at_most=100_000)
    zones: str = parameter(
        "", "forbidden zones in YAML: a list of {centre: [x, y], half: [a, b], yaw: rad, radius: m}; or solids, docs/guardrails.md"
    )
    guardrails: str = parameter("", "further guardrails of the search: YAML, or the path of a file; see docs/guardrails.md", fixed=True)
    guardrail_heads: str = parameter("", "folders of guardrail and goal-cost heads from `latent-mpc head fit`, separated by commas", fixed=True)
    clearance_m: float = parameter(0.015, "m that the commanded tool point keeps from zones", at_least=0.0, at_most=0.5)
    seed: int = parameter(0, "seed of the search", at_least=0, at_most=2**31 - 1)
    deadline_s: float = parameter(0.06, "s after which the best plan so far is taken", at_least=0.005, at_most=10.0)
    rate_hz: float = parameter(20.0, "plans a second at most", at_least=1.0, at_most=100.0)
    frame_timeout_s: float = parameter(0.2, "s of age at which a latent is too old to plan from", at_least=0.02, at_most=10.0)
    resync_m: float = parameter(0.04, "m between commanded and measured tool point at which the plan starts over from there", at_least=0.005)
    stop_on_surprise: bool = parameter(False, "send no plan while the camera shows what was not expected; the guardrail brakes")
    position_margin: float = parameter(0.03, "rad that plans keep from both ends of every joint", at_least=0.0, at_most=1.0, fixed=True)
    compensate_latency: bool = parameter(True, "plan from the latent that is expected when the plan arrives, not from the frame's")
    finish_early: bool = parameter(False, "end when the goal is near, out of reach or blocked, not when all steps are used")
    near_steps: float = parameter(3.0, "steps from the goal, as the critic sees them, that count as near", at_least=0.1, at_most=1000.0)
    far_steps: float = parameter(6.0, "steps from the goal beyond which no progress means out of reach", at_least=0.2, at_most=1000.0)
    patience_s: float = parameter(2.0, "s without progress, or without a feasible plan, that are put up with", at_least=0.2, at_most=1000.0)
    threads: int = parameter(1, "threads of the inference sessions", at_least=1, at_most=64, fixed=True)
    cpu_affinity: str = parameter("", "cores that it may run on, such as 1 or 0,2-3; empty: any", fixed=True)
    priority: str = parameter(
        "none", "what it asks the scheduler for, behind the guardrail; auto: the first that is permitted", choices=WISHES, fixed=True
    )

    def __post_init__(self) -> None:
        read_cores(self.cpu_affinity)
        read_zone_set(self.zones, self.clearance_m)
        self.progress()
        planner_config(self.mode, self.solver, self.planner_file)

    def runtime_config(self, graphs: tuple[str, ...]) -> RuntimeConfig:
        """What ``graphs`` are to run on."""
        return RuntimeConfig(self.threads, self.precision, self.runtime, self.engine_cache, graphs)

    def progress(self) -> ProgressConfig:
        """When a goal counts as near, out of reach or blocked."""
        return ProgressConfig(self.near_steps, far_steps=self.far_steps, patience_s=self.patience_s, blocked_s=self.patience_s)
