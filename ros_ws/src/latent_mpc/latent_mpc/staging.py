"""An output folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path


class OutputError(ValueError):
    """An output folder that cannot be used, with the reason in one line."""


@contextlib.contextmanager
def staged(out: Path, signature: str) -> Iterator[Path]:
    """A folder beside ``out`` to write into; it becomes ``out`` when the block ends well, and is removed when it does not.

    An earlier output, known by its file ``signature``, is replaced at the end; any other folder that holds something is left alone.

    Raises:
        OutputError: ``out`` holds something else, or cannot be written.
    """
    out = out.absolute()
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is not a folder")
    try:
        if out.is_dir() and any(out.iterdir()) and not (out / signature).is_file():
            raise OutputError(f"{out} is not empty and was not written by this command; choose another folder")
        partial, old = (out.with_name(f".{out.name}.{suffix}") for suffix in ("partial", "old"))
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from error
    try:
        yield partial
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        partial.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
