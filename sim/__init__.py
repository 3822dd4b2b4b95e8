"""The world: a PyBullet arm at a table, seen by a fixed camera, with tasks whose goal is a picture."""

from __future__ import annotations

import os


def _import_pybullet_silently() -> None:
    """PyBullet greets on stderr when it is imported first; stderr is for what went wrong."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import pybullet  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


_import_pybullet_silently()
