"""The tasks by name: the one place to add a task."""

from __future__ import annotations

from sim.tasks.pictured_goal import PicturedGoalEnv
from sim.tasks.push import Push, PushAround, PushFar, PushFurther
from sim.tasks.reach import Reach
from sim.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (Reach(), Push(), PushFar(), PushFurther(), PushAround())}


class UnknownTaskError(ValueError):
    """A task name that is not registered."""


def task_named(name: str) -> Task:
    """The task called ``name``.

    Raises:
        UnknownTaskError: there is none; the message lists those that exist.
    """
    if name not in TASKS:
        raise UnknownTaskError(f"unknown task '{name}'; choose one of {', '.join(TASKS)}")
    return TASKS[name]


def make_env(name: str, gui: bool = False) -> PicturedGoalEnv:
    """A Gymnasium environment of the task called ``name``; ``gui`` opens PyBullet's window."""
    return PicturedGoalEnv(task_named(name), gui=gui)
