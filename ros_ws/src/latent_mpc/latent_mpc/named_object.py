"""Things that a user names on the command line as ``module:name``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


class NamedObjectError(ValueError):
    """A ``module:name`` that leads nowhere, with the reason in one line."""


def import_named(module: str) -> Any:
    """Import ``module``, also from the folder that the command was started in.

    Raises:
        NamedObjectError: there is no such module, or importing it fails.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except Exception as error:  # a user's module may fail in any way
        raise NamedObjectError(f"module '{module}' cannot be imported: {type(error).__name__}: {error}") from error


def named_callable(name: str) -> Any:
    """What ``module:name`` leads to.

    Raises:
        NamedObjectError: the name is malformed, leads nowhere, or to something that cannot be called.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise NamedObjectError(f"'{name}' does not name a callable; write module:name")
    found = getattr(import_named(module), attribute, None)
    if not callable(found):
        raise NamedObjectError(f"module '{module}' has no callable '{attribute}'")
    return found
