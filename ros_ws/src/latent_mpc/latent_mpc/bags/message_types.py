"""What a type that is published looks like: its Python class, its definition and its hash."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from latent_mpc.bags.storage import BagError, Channel

_PRIMITIVE = re.compile(r"bool|byte|char|u?int(8|16|32|64)|float(32|64)|w?string")
_FIELD = re.compile(r"^\s*([A-Za-z][\w/]*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z]\w*")


def message_class(msgtype: str) -> type:
    """The Python class of a type such as ``sensor_msgs/msg/Image``.

    Raises:
        BagError: it is not installed.
    """
    try:
        package, _, name = msgtype.split("/")
        found: type = getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BagError(f"unknown type {msgtype}") from error
    return found


class MessageTypes:
    """Definitions for a recorder: the standard ones, and those that installed packages bring as ``share/<package>/msg/<Name>.msg``."""

    def __init__(self) -> None:
        self._store: Typestore = get_typestore(Stores.ROS2_KILTED)
        self._own: dict[str, Typestore] = {}

    def describe(self, topic: str, msgtype: str) -> Channel:
        """A channel with definition and hash; both are empty where nobody knows them, and the bag can be played, but not decoded."""
        try:
            store = self._store if msgtype in self._store.fielddefs else self._installed(msgtype)
            definition, _ = store.generate_msgdef(msgtype, ros_version=2)
            return Channel(topic, msgtype, definition, "ros2msg", store.hash_rihs01(msgtype))
        except (TypesysError, KeyError, ValueError, OSError):
            return Channel(topic, msgtype)

    def _installed(self, msgtype: str) -> Typestore:
        if msgtype not in self._own:
            store = get_typestore(Stores.EMPTY)
            waiting, types = [msgtype], dict(self._store.fielddefs)
            seen = set(types)
            while waiting:
                name = waiting.pop()
                if name in seen:
                    continue
                seen.add(name)
                text = _definition_file(name).read_text()
                types.update(get_types_from_msg(text, name))
                waiting += _named_types(text, name.split("/")[0])
            store.register(types)
            self._own[msgtype] = store
        return self._own[msgtype]


def _definition_file(msgtype: str) -> Path:
    package, _, name = msgtype.split("/")
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        file = Path(prefix, "share", package, "msg", f"{name}.msg")
        if prefix and file.is_file():
            return file
    raise KeyError(msgtype)


def _named_types(text: str, package: str) -> list[str]:
    """Types of the fields in a definition, by their full names."""
    found = []
    for line in text.splitlines():
        match = _FIELD.match(line)
        if match and not _PRIMITIVE.fullmatch(match[1]):
            parts = match[1].split("/")
            found.append(f"{parts[0] if len(parts) > 1 else package}/msg/{parts[-1]}")
    return found
