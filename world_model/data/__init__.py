"""Episodes on disk."""

from world_model.data.episodes import DatasetError, EpisodeDataset, ShardWriter, write_description

__all__ = ["DatasetError", "EpisodeDataset", "ShardWriter", "write_description"]
