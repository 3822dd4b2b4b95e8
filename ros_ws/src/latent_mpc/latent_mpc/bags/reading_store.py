"""A type store that makes of a type what reads it, and nothing else: rosbags compiles twelve functions for each, of which a reader calls one."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from rosbags.serde.cdr import generate_deserialize_cdr
from rosbags.typesys.base import normalize_fieldname
from rosbags.typesys.store import Typestore


class ReadingStore(Typestore):
    """The types of another store, to be deserialized from CDR only."""

    def __init__(self, full: Typestore) -> None:
        super().__init__()
        self.types, self.fielddefs = full.types, full.fielddefs
        self._readers: dict[str, _Reader] = {}

    def get_msgdef(self, typename: str) -> Any:
        """What ``deserialize_cdr`` asks for, also for the types inside of ``typename``."""
        found = self._readers.get(typename)
        if found is None:
            found = self._readers[typename] = _Reader(self, typename)
        return found


class _Reader:
    """Named as in rosbags' ``Msgdef``, whose place it takes."""

    def __init__(self, store: ReadingStore, typename: str) -> None:
        self.cls = store.types[typename]
        self.fields = [(normalize_fieldname(name), description) for name, description in store.fielddefs[typename][1]]
        self._store = store

    @cached_property
    def deserialize_cdr_le(self) -> Any:
        return generate_deserialize_cdr(self.fields, self._store, "le")

    @cached_property
    def deserialize_cdr_be(self) -> Any:
        return generate_deserialize_cdr(self.fields, self._store, "be")
