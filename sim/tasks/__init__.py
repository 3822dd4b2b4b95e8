"""Tasks whose goal is a picture, as Gymnasium environments."""

from sim.tasks.episode import Episode
from sim.tasks.pictured_goal import PicturedGoalEnv
from sim.tasks.registry import TASKS, UnknownTaskError, make_env, task_named
from sim.tasks.task import Task

__all__ = ["TASKS", "Episode", "PicturedGoalEnv", "Task", "UnknownTaskError", "make_env", "task_named"]
