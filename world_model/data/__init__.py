"""Episodes on disk; docs/data.md describes the format."""

from world_model.data.description import DatasetError, action_components, write_description
from world_model.data.episodes import EpisodeDataset, EpisodeReader, join
from world_model.data.shards import ShardWriter

__all__ = ["DatasetError", "EpisodeDataset", "EpisodeReader", "ShardWriter", "action_components", "join", "write_description"]
