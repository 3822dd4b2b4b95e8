"""Which files a bag is made of: a rosbag2 folder with its metadata.yaml, a folder that lost it, or a single storage file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from latent_mpc.bags.qos import OfferedQos, read_qos
from latent_mpc.bags.storage import BagError

METADATA = "metadata.yaml"
NEWEST_VERSION = 9
STORAGE_ENDINGS = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd", ".mcap.zst", ".db3.zst")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class BagFolder:
    """The ``files`` of a bag in their order, and what its metadata say. ``version`` is 0, and ``distro`` empty, where nobody says."""

    path: Path
    files: tuple[Path, ...]
    version: int = 0
    distro: str = ""
    has_metadata: bool = False
    qos: Mapping[str, tuple[OfferedQos, ...]] = field(default_factory=dict)
    custom: Mapping[str, str] = field(default_factory=dict)


def find_files(path: Path) -> BagFolder:
    """What the bag ``path`` is made of.

    Raises:
        BagError: it does not exist, is no bag, or its metadata name files that are not there.
    """
    if path.is_file():
        if not path.name.endswith(STORAGE_ENDINGS):
            raise BagError(f"{path} is no bag: a bag is a folder, or a file that ends with .mcap or .db3")
        return BagFolder(path, (path,))
    if not path.is_dir():
        raise BagError(f"no bag folder {path}")
    if (path / METADATA).is_file():
        return _with_metadata(path)
    files = storage_files(path)
    if not files:
        raise BagError(f"{path} is no bag: it holds neither {METADATA} nor a file that ends with .mcap or .db3")
    return BagFolder(path, files)


def storage_files(folder: Path) -> tuple[Path, ...]:
    """The storage files in a folder, ``bag_10.mcap`` after ``bag_9.mcap``."""
    found = [file for file in folder.iterdir() if file.is_file() and file.name.endswith(STORAGE_ENDINGS)]
    return tuple(sorted(found, key=lambda file: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]))


@lru_cache(maxsize=4)
def _parsed(text: str) -> Any:
    """YAML that is only read: a bag is opened several times, each time for something else, and its metadata take longer than all else."""
    return yaml.load(text, Loader=_LOADER)


def _with_metadata(path: Path) -> BagFolder:
    try:
        read = _parsed((path / METADATA).read_text())
        information = read["rosbag2_bagfile_information"]
        version = int(information["version"])
        names = [PurePosixPath(str(name)).name for name in information["relative_file_paths"]]
        topics = information.get("topics_with_message_count") or []
        qos = {entry["topic_metadata"]["name"]: read_qos(entry["topic_metadata"].get("offered_qos_profiles", "")) for entry in topics}
        custom = {str(key): str(value) for key, value in (information.get("custom_data") or {}).items()}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise BagError(f"{path / METADATA} cannot be read ({type(error).__name__}: {reason}): `latent-mpc bag recover` does without") from error
    if version > NEWEST_VERSION:
        raise BagError(f"{path / METADATA} has version {version}, this reads up to {NEWEST_VERSION}: name its storage files one by one")
    files = tuple(path / name for name in names)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise BagError(f"{path} lacks {', '.join(missing)}, which its {METADATA} names: bring them back, or `latent-mpc bag recover` the rest")
    return BagFolder(path, files, version, str(information.get("ros_distro") or ""), True, qos, custom)
