"""Small heads on the frozen latent: temporal distances without labels; guardrails, probes, goal costs and depth from few labelled frames.

``TemporalDistanceHead`` is looked up on demand: running a head needs ONNX Runtime alone, and torch takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from world_model.heads.temporal_distance import TemporalDistanceHead

__all__ = ["TemporalDistanceHead"]


def __getattr__(name: str) -> Any:
    if name == "TemporalDistanceHead":
        from world_model.heads import temporal_distance

        return temporal_distance.TemporalDistanceHead
    raise AttributeError(f"module {__name__} has no attribute {name}")
