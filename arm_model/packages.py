"""Where the files lie that a description or a URDF names."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path


def locate(name: str, beside: Path) -> Path:
    """The file that ``name`` means: absolute, relative to the folder ``beside``, ``file://`` or ``package://<package>/...``.

    A package is an installed Python package, a ROS package of a sourced workspace, or a folder of that name beside the file or above it.
    """
    if name.startswith("file://"):
        return Path(name.removeprefix("file://"))
    if not name.startswith("package://"):
        return (beside / name).resolve()
    package, _, rest = name.removeprefix("package://").partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    roots = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    roots += [Path(prefix) / "share" / package for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    roots += [folder / package for folder in (beside, *beside.parents)]
    return next((root / rest for root in roots if (root / rest).is_file()), beside / package / rest)
