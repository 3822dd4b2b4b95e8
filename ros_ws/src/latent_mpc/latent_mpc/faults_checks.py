"""What must hold of a recording: every check by its name. To add one, write it where its kind is and list it here."""

from __future__ import annotations

from latent_mpc import faults_motion_checks as motion
from latent_mpc import faults_word_checks as words
from latent_mpc.faults_evidence import Check

CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        motion.limits,
        motion.finite_values,
        motion.cycles,
        motion.braking_within_ms,
        motion.braking_after_ms,
        motion.rest_within_ms,
        motion.cycles_to_brake,
        motion.unchanged,
        motion.tracking_share,
        motion.silent_when_stopped,
        motion.first_command_rad,
        motion.loop_slower_by,
        motion.largest_gap_ms,
        motion.clearance_m,
        motion.above_table_m,
        motion.workspace_m,
        words.reaches,
        words.reason,
        words.error_within_ms,
        words.counted,
        words.noticed_within_ms,
        words.fuzzed,
        words.plan_age_ms,
        words.no_latents,
        words.rearmed,
        words.alive,
        words.arm_refused,
        words.ends_with,
    )
}
