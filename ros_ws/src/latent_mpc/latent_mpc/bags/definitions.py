"""What message types look like: from the definitions in a bag, and from those of the distribution that it was recorded with."""

from __future__ import annotations

from functools import cache
from typing import Any

from rosbags.interfaces.typing import Typesdict
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from latent_mpc.bags.reading_store import ReadingStore
from latent_mpc.bags.storage import BagError, Channel

_SEPARATOR = "=" * 80 + "\n"
# Only bags up to version 5 of the metadata (Humble) lack definitions altogether; the later ones name their distribution.
_BY_VERSION = {1: Stores.ROS2_DASHING, 2: Stores.ROS2_DASHING, 3: Stores.ROS2_FOXY, 4: Stores.ROS2_FOXY, 5: Stores.ROS2_HUMBLE, 6: Stores.ROS2_IRON}
_BROKEN = (SerdeError, TypesysError, ValueError, KeyError, IndexError, AssertionError, TypeError, AttributeError, OverflowError, MemoryError)


def distribution(version: int, name: str) -> Stores:
    """The distribution ``name``; where that is unknown, the oldest that wrote metadata of ``version``."""
    return next((store for store in Stores if store.value == f"ros2_{name.lower()}"), _BY_VERSION.get(version, Stores.ROS2_KILTED))


class Definitions:
    """Decodes messages, each type by its own definition: one that nobody can make sense of harms no other."""

    def __init__(self, fallback: Stores) -> None:
        """``fallback``: the distribution whose definitions hold for types that a bag does not define."""
        self._fallback = fallback
        self._stores: dict[tuple[str, str], ReadingStore | str] = {}

    def trouble(self, channel: Channel) -> str:
        """Why messages of a channel cannot be decoded, or nothing."""
        found = self._store(channel)
        return found if isinstance(found, str) else ""

    def decode(self, channel: Channel, data: bytes) -> Any:
        """The message; it has the fields of its ROS type, arrays as numpy arrays.

        Raises:
            BagError: its type is unknown, or ``data`` are no message of that type.
        """
        store = self._store(channel)
        if isinstance(store, str):
            raise BagError(f"{channel.topic} cannot be decoded: {store}")
        try:
            return store.deserialize_cdr(data, channel.msgtype)
        except _BROKEN as error:
            raise BagError(f"a message on {channel.topic} cannot be decoded as {channel.msgtype}") from error

    def _store(self, channel: Channel) -> ReadingStore | str:
        key = (channel.msgtype, channel.definition)
        if key not in self._stores:
            self._stores[key] = _make_store(channel, self._fallback)
        return self._stores[key]


def _make_store(channel: Channel, fallback: Stores) -> ReadingStore | str:
    if channel.serialization not in ("", "cdr"):
        return f"serialized as '{channel.serialization}', this reads cdr"
    standard = _standard(fallback)
    if not channel.definition:
        return standard if channel.msgtype in standard.fielddefs else f"the bag does not say what {channel.msgtype or 'its type'} looks like"
    try:
        types = _parse(channel)
        # One class for one type, wherever it looks as everybody expects.
        if channel.msgtype in types and all(standard.fielddefs.get(name) == fields for name, fields in types.items()):
            return standard
        store = get_typestore(Stores.EMPTY)
        store.register(types)
    except _BROKEN as error:
        return f"the definition of {channel.msgtype} in the bag cannot be read: {' '.join(str(error).split())}"
    return ReadingStore(store) if channel.msgtype in store.fielddefs else f"the definition in the bag is not that of {channel.msgtype}"


def _parse(channel: Channel) -> Typesdict:
    if channel.encoding == "ros2msg":
        return get_types_from_msg(channel.definition, channel.msgtype)
    if not channel.definition.startswith(f"{_SEPARATOR}IDL: "):
        return get_types_from_idl(channel.definition)
    types: Typesdict = {}
    for part in channel.definition.split(_SEPARATOR)[1:]:
        types.update(get_types_from_idl(part.split("\n", 1)[1]))
    return types


@cache
def _standard(store: Stores) -> ReadingStore:
    return ReadingStore(get_typestore(store))
