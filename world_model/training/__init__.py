"""How the model learns. `run.train` is the story: `world_model` trains encoder and predictor, `distance` the critic, `actor` the actor."""

from world_model.training.actor import HindsightBatch, draw_hindsight, train_actor
from world_model.training.distance import train_distance
from world_model.training.episodes import Episodes, encode_all, encode_episodes, open_episodes
from world_model.training.learned import Learned, build
from world_model.training.loss import Loss, loss_terms
from world_model.training.run import train
from world_model.training.schedule import learning_rate

__all__ = [
    "Episodes",
    "HindsightBatch",
    "Learned",
    "Loss",
    "build",
    "draw_hindsight",
    "encode_all",
    "encode_episodes",
    "learning_rate",
    "loss_terms",
    "open_episodes",
    "train",
    "train_actor",
    "train_distance",
]
