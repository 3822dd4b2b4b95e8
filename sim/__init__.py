"""The world: a PyBullet arm at a table, seen by a fixed camera, with tasks whose goal is a picture."""

from sim.silence import silenced

# It greets when it is imported first.
with silenced(2):
    import pybullet  # noqa: F401
