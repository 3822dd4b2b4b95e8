"""The operator lists that are vendored in ``operators/``, read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "operators"
LEAST_VERSION, FIRST_UNKNOWN_VERSION = (10, 3), (12, 0)


class TensorRtError(ValueError):
    """Something that TensorRT cannot do, or that cannot be done without it, in one line."""


@dataclass(frozen=True)
class Operator:
    """One row of the page: ``types`` as TensorRT names them, ``restrictions`` in the page's words."""

    supported: bool
    types: tuple[str, ...]
    restrictions: str


@dataclass(frozen=True)
class OperatorList:
    """What the parser of one version supports. ``opsets`` are the least and the most, ``source`` is the page at its commit."""

    version: tuple[int, int]
    source: str
    opsets: tuple[int, int]
    operators: dict[str, Operator]

    @property
    def label(self) -> str:
        """The version as text."""
        return ".".join(map(str, self.version))


def parse_version(text: str) -> tuple[int, int]:
    """Major and minor of a version such as ``10.3`` or ``10.13.3.9``.

    Raises:
        TensorRtError: it is none, or none that this software knows.
    """
    parts = text.split(".")
    if len(parts) < 2 or not all(part.isdigit() for part in parts[:2]):
        raise TensorRtError(f"'{text}' is no version of TensorRT; write 10.3 or the like")
    version = int(parts[0]), int(parts[1])
    if version < LEAST_VERSION:
        raise TensorRtError(f"TensorRT {text} is too old: 10.3 is the least (JetPack 6.2); update TensorRT, or run the bundle with runtime 'cuda'")
    if version >= FIRST_UNKNOWN_VERSION:
        raise TensorRtError(f"TensorRT {text} is newer than what this software knows (10.3 to 11); install one of those, or update this software")
    return version


def operator_list(version: tuple[int, int]) -> OperatorList:
    """The newest list that is not newer than ``version``: what an earlier parser took, later ones take."""
    lists = [_read(file) for file in _FOLDER.glob("*.json")]
    return max((found for found in lists if found.version <= version), key=lambda found: found.version)


def _read(file: Path) -> OperatorList:
    content = json.loads(file.read_text())
    major, minor = (int(part) for part in content["tensorrt"].split("."))
    operators = {name: Operator(row["supported"], tuple(row["types"]), row["restrictions"]) for name, row in content["operators"].items()}
    return OperatorList((major, minor), content["source"], (content["least_opset"], content["most_opset"]), operators)
