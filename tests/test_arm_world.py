import numpy as np
import pytest

from sim.tasks import make_env


@pytest.mark.parametrize("jump", [0.02, 0.05, 0.1])
def test_a_set_point_that_jumps_does_not_blow_up(jump):
    """Late commands make jumps; the drives catch up with them, and the arm never overshoots by more than the jump."""
    env = make_env("reach")
    rng = np.random.default_rng(0)
    step = env.task.tool_step
    try:
        for _ in range(15):
            start = rng.uniform(step.lower, step.upper)
            q = env.kinematics.solve(start)
            towards = env.kinematics.solve(step.clamp(start + 0.01 * rng.standard_normal(3)), q) - q
            env.world.place(q, None)
            env.world.command(q + jump * towards / np.abs(towards).max())
            for _ in range(100):
                env.world.advance()
                assert np.abs(env.world.joints()[0] - q).max() < 2 * jump
    finally:
        env.close()
