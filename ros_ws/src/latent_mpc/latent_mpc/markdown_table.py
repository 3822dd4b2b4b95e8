"""Tables inside documents: what stands between two markers is replaced, everything else stays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


class TableError(ValueError):
    """A document that has no place for a table, with the reason in one line."""


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def has_place(file: Path, name: str) -> bool:
    """Whether ``file`` has the markers of ``name``."""
    return file.is_file() and all(marker in file.read_text() for marker in _markers(name))


def write_between(file: Path, name: str, text: str) -> None:
    """Put ``text`` between ``<!-- name -->`` and ``<!-- end of name -->`` in ``file``, whole or not at all.

    Raises:
        TableError: the markers are not there, or not in this order.
    """
    begin, end = _markers(name)
    content = file.read_text() if file.is_file() else ""
    before, found, rest = content.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise TableError(f"{file} has no place for a table: it needs the lines {begin} and {end}")
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(f"{before}{begin}\n{text}\n{end}{after}")
    partial.replace(file)


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- end of {name} -->"
