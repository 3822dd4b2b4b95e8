"""The world: a PyBullet arm at a table, seen by a fixed camera, with tasks whose goal is a picture."""
