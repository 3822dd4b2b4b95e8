"""Recorded bags as data sets: `importing` is the story; `topics` chooses, `log` reads, `meaning` says what was done, `cut` makes episodes of it."""

from latent_mpc.bag_data.importing import BagImport, Imported, import_bags
from latent_mpc.bag_data.topics import AskedTopics

__all__ = ["AskedTopics", "BagImport", "Imported", "import_bags"]
