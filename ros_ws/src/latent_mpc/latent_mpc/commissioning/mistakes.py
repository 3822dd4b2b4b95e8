"""What goes wrong on real set-ups, each with the findings that must show it. The double makes them; the tests and a rehearsal ask for them."""

from __future__ import annotations

MISTAKES: dict[str, tuple[str, ...]] = {
    "slow_joint_states": ("joint_states.rate",),
    "renamed_joint": ("joints.names",),
    "joint_beyond_soft_limit": ("joints.soft_limits",),
    "wrong_clock": ("joint_states.clock",),
    "old_pictures": ("camera.latency", "camera_info.latency"),
    "slow_camera": ("camera.rate", "camera_info.rate"),
    "wrong_encoding": ("camera.encoding",),
    "other_calibration_size": ("camera.info_size",),
    "other_frame_id": ("camera.frame_id",),
    "uncalibrated": ("camera.calibration",),
    "two_controllers": ("command.controller",),
    "rival_commander": ("command.publishers",),
    "controller_wants_latched": ("command.qos",),
    "tighter_driver_limits": ("description.limits",),
    "driver_of_another_arm": ("description.joints",),
    "guardrail_of_another_arm": ("guardrail.arm",),
    "armed_guardrail": ("guardrail.disarmed",),
    "stop_does_not_latch": ("guardrail.latched",),
}
"""Mistakes that do not hide each other: all of them at once must all be found. The findings are all that may fail for each."""

HIDING: dict[str, tuple[str, ...]] = {
    "no_joint_states": ("joint_states.present",),
    "two_drivers": ("joint_states.present",),
    "frozen_stamps": ("joint_states.clock",),
    "slow_link": ("joint_states.latency",),
    "no_positions": ("joints.values",),
    "no_camera": ("camera.present", "camera_info.present"),
    "no_camera_info": ("camera_info.present",),
    "unstamped_pictures": ("camera.clock", "camera_info.clock"),
    "no_description": ("description.present",),
    "no_controller": ("command.controller",),
    "other_controller_type": ("command.type",),
    "no_guardrail": ("guardrail.alive",),
    "stop_refuses": ("guardrail.stop",),
}
"""Mistakes after which something else cannot be looked at any more: one at a time."""
