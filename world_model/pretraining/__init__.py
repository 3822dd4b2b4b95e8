"""Pre-training of encoders without actions: DINO self-distillation of the `vit` architecture on the frames of a data set."""

from world_model.pretraining.config import PretrainConfig, read_pretrain_config
from world_model.pretraining.dino import pretrain

__all__ = ["PretrainConfig", "pretrain", "read_pretrain_config"]
