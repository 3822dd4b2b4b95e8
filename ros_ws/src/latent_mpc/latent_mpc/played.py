"""What an interrupted evaluation has played already: every outcome is on disk as soon as it is known, and none is played twice."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_IDENTITY = "identity"


def identity(**settings: object) -> str:
    """SHA-256 of all that outcomes depend on; values are told apart by their ``repr``."""
    text = json.dumps({name: repr(value) for name, value in sorted(settings.items())})
    return hashlib.sha256(text.encode()).hexdigest()


class Played:
    """Outcomes as JSON lines in ``<name>.partial`` beside ``file``, under the identity of their evaluation; ``finish`` makes ``file`` of them."""

    def __init__(self, file: Path, identity: str) -> None:
        """Takes up what is there. What another evaluation left, or a line that was cut off, is not taken up."""
        self._file, self._partial = file, file.with_name(file.name + ".partial")
        self._identity = identity
        self.outcomes = self._read()
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({_IDENTITY: identity}), *map(json.dumps, self.outcomes)]
        self._partial.write_text("".join(line + "\n" for line in lines))

    def add(self, outcome: dict[str, Any]) -> None:
        """Keep one more."""
        self.outcomes.append(outcome)
        with self._partial.open("a") as opened:
            opened.write(json.dumps(outcome) + "\n")

    def finish(self, outcomes: list[dict[str, Any]]) -> None:
        """Write ``outcomes``, those that were asked for in their order, to the file, and forget the partial one."""
        self._partial.write_text("".join(json.dumps(outcome) + "\n" for outcome in outcomes))
        self._partial.replace(self._file)

    def _read(self) -> list[dict[str, Any]]:
        if not self._partial.is_file():
            return []
        found = []
        for line in self._partial.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found[1:] if found and found[0] == {_IDENTITY: self._identity} else []
