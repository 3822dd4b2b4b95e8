"""The predictors by name: the one place to add a predictor."""

from __future__ import annotations

from dataclasses import dataclass

from world_model.predictors.action_prefix import ActionPrefixPredictor
from world_model.predictors.one_token import OneTokenPredictor
from world_model.predictors.predictor import Predictor
from world_model.predictors.transformer import TransformerPredictor

KINDS = ("one_token", "transformer", "action_prefix")


@dataclass(frozen=True)
class PredictorConfig:
    """Which predictor, and how large.

    ``kind``: ``one_token`` (a residual network), ``transformer`` (AdaLN-zero, block-causal over the history) or ``action_prefix`` (all steps in one
    pass). ``heads`` is for the two with attention; ``horizon``, the most steps of one pass, for ``action_prefix`` alone.
    """

    kind: str = "one_token"
    width: int = 256
    depth: int = 3
    heads: int = 4
    dropout: float = 0.0
    horizon: int = 8

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "horizon"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, must lie in [0, 1)")
        if self.kind != "one_token" and self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of the number of heads, {self.heads}")


def build_predictor(config: PredictorConfig, history: int, tokens: int, token_dim: int, action_dim: int) -> Predictor:
    """The predictor that ``config`` names, for L = ``history`` latents of ``tokens`` x ``token_dim`` numbers and actions ``(A,)``.

    Raises:
        ValueError: there is no such kind; the message lists those that exist.
    """
    shape = (history, tokens, token_dim, action_dim)
    if config.kind == "one_token":
        return OneTokenPredictor(*shape, config.width, config.depth, config.dropout)
    if config.kind == "transformer":
        return TransformerPredictor(*shape, config.width, config.depth, config.heads, config.dropout)
    if config.kind == "action_prefix":
        return ActionPrefixPredictor(*shape, config.width, config.depth, config.heads, config.dropout, config.horizon)
    raise ValueError(f"unknown predictor kind '{config.kind}'; choose {', '.join(KINDS[:-1])} or {KINDS[-1]}")
