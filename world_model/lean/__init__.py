"""The same function with less arithmetic: rollouts of trained world models, worked out once and then run by ONNX Runtime (docs/speed.md)."""

from world_model.lean.lewm import LewmRollout, lewm_rollout
from world_model.lean.weights import LewmShape, LewmWeightsError, random_lewm_weights

__all__ = ["LewmRollout", "LewmShape", "LewmWeightsError", "lewm_rollout", "random_lewm_weights"]
