"""What may be set of the guardrail node: declared, typed, ranged, described."""

from __future__ import annotations

from dataclasses import dataclass

from planner_node.guard import GuardConfig, Unheard
from planner_node.plan_gate import PlanGateConfig
from planner_node.staleness import StalenessConfig
from ros_bridge import scheduling
from ros_bridge.parameters import parameter

OUTPUTS = tuple(unheard.value for unheard in Unheard)


@dataclass(frozen=True)
class GuardrailParameters:
    """Parameters of the guardrail node.

    What the watchdogs put up with may be set while it runs. What the promised stop was computed from may not: arm, limits and what is around.
    """

    robot: str = parameter("panda_stick", "name of a shipped arm, or path of an arm description in YAML", fixed=True)
    output: str = parameter("trajectory", "which controller is commanded", choices=OUTPUTS, fixed=True)
    shadow: bool = parameter(False, "command on /guardrail/shadow only; with auto_arm stops do not latch", fixed=True)
    autostart: bool = parameter(True, "configure and activate without being asked", fixed=True)
    auto_arm: bool = parameter(False, "arm without being asked, as soon as joint states arrive and the arm stands", fixed=True)
    position_margin: float = parameter(0.02, "rad kept from both ends of every joint", at_least=0.0, at_most=1.0, fixed=True)
    velocity_scale: float = parameter(0.5, "share of the URDF's velocity limits that may be used", at_least=0.01, at_most=1.0, fixed=True)
    acceleration_scale: float = parameter(0.95, "share of the URDF's acceleration limits that may be used", at_least=0.01, at_most=1.0, fixed=True)
    jerk_scale: float = parameter(0.5, "share of the URDF's jerk limits that may be used", at_least=0.01, at_most=1.0, fixed=True)
    scene: str = parameter("", "what stands around the arm: a YAML file, or the YAML itself; see docs/guardrail.md", fixed=True)
    collision_margin_m: float = parameter(0.01, "m kept between any two shapes that may not touch", at_least=0.0, at_most=0.2, fixed=True)
    workspace: str = parameter("", "where the tool may be, in YAML: {min: [x, y, z], max: [x, y, z], half_spaces: [{normal, offset}]}", fixed=True)
    tool_speed: float = parameter(0.0, "m/s of the tool point at most; 0 for no limit", at_least=0.0, at_most=10.0, fixed=True)
    barrier_gain: float = parameter(5.0, "1/s: share of a distance that may be used up in a second", at_least=0.1, at_most=50.0, fixed=True)
    plan_timeout_s: float = parameter(0.35, "s after its reception that a plan is followed", at_least=0.02, at_most=10.0)
    frame_timeout_s: float = parameter(0.3, "s of age at which a frame is too old to plan from", at_least=0.02, at_most=10.0)
    frame_hold_s: float = parameter(0.1, "s without a new frame or latent above which no new plan is let in", at_least=0.02, at_most=10.0)
    frame_stop_s: float = parameter(0.3, "s without a new frame or latent above which the arm ramps to a stop", at_least=0.02, at_most=10.0)
    joint_timeout_s: float = parameter(
        0.038, "s without a newer joint state before the arm brakes: three of the driver's periods and 8 ms", at_least=0.004, at_most=1.0
    )
    planner_lease_s: float = parameter(
        0.085, "s after which a planner that offers liveliness and shows none counts as gone; 0: not watched", at_least=0.0, at_most=10.0, fixed=True
    )
    tracking_tolerance_rad: float = parameter(0.15, "rad between command and measurement that is too much", at_least=0.001, at_most=3.0)
    tracking_cycles: int = parameter(10, "cycles in a row, late ones counted, of too much tracking error before a stop", at_least=1, at_most=1000)
    camera_info_topic: str = parameter("/camera/camera_info", "topic whose stamps show that the camera lives; empty: not watched", fixed=True)
    latent_topic: str = parameter("/perception/latent", "topic whose stamps show that perception lives; empty: not watched", fixed=True)

    priority: str = parameter(
        "auto", "of the process: realtime (SCHED_FIFO), nice, or the first of both that is permitted", choices=scheduling.WISHES, fixed=True
    )

    def __post_init__(self) -> None:
        StalenessConfig(self.frame_hold_s, self.frame_stop_s)

    @property
    def gate(self) -> PlanGateConfig:
        """When a plan counts as too old."""
        return PlanGateConfig(plan_timeout_s=self.plan_timeout_s, frame_timeout_s=self.frame_timeout_s)

    @property
    def guard(self) -> GuardConfig:
        """What the guard puts up with."""
        return GuardConfig(
            joint_timeout_s=self.joint_timeout_s,
            # In shadow the arm moves for others, or not at all.
            tracking_tolerance_rad=float("inf") if self.shadow else self.tracking_tolerance_rad,
            tracking_cycles=self.tracking_cycles,
            auto_arm=self.auto_arm,
            unheard=Unheard(self.output),
        )
