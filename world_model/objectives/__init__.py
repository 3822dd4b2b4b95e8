"""Objectives against collapse, interchangeable, and what says that latents collapse. `registry.build_objective` is the one place to add another."""

from world_model.objectives.effective_rank import collapse_warning, effective_rank
from world_model.objectives.expectile import expectile
from world_model.objectives.objective import AntiCollapse, Window
from world_model.objectives.registry import KINDS, ObjectiveConfig, build_objective
from world_model.objectives.sigreg import sigreg

__all__ = ["KINDS", "AntiCollapse", "ObjectiveConfig", "Window", "build_objective", "collapse_warning", "effective_rank", "expectile", "sigreg"]
