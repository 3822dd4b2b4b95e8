"""Settings from YAML to frozen dataclasses: what is unknown, of the wrong type or out of range is named in one line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

from arm_model.near_names import did_you_mean

T = TypeVar("T")


class SettingsError(ValueError):
    """Settings that cannot be understood, with the reason in one line."""


def read_settings(kind: type[T], content: object, what: str, given: Mapping[str, object] | None = None) -> T:
    """A ``kind``, a frozen dataclass, from the mapping ``content``; fields in ``given`` are no settings. ``what`` is for messages.

    Raises:
        SettingsError: an unknown setting, or one of the wrong type. What the dataclass itself refuses is a ``ValueError``, too.
    """
    given = given or {}
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name not in given and name != "name"}
    if content is None:
        content = {}
    if not isinstance(content, Mapping):
        raise SettingsError(f"the settings of {what} must be a mapping, not {content!r}")
    for name in content:
        if name not in hints:
            raise SettingsError(f"unknown setting '{name}' of {what}; it has {', '.join(hints)}{meant(str(name), list(hints))}")
    values = {name: _value(hints[name], value, f"{name} of {what}") for name, value in content.items()}
    return kind(**given, **values)


def meant(name: str, known: Sequence[str]) -> str:
    """A guess for a message, empty where there is none."""
    guess = did_you_mean(name, known)
    return f" ({guess})" if guess else ""


def require_counts(solver: str, least: int = 1, **values: int) -> None:
    """Refuse numbers below ``least``.

    Raises:
        SettingsError: one is.
    """
    for name, value in values.items():
        if value < least:
            raise SettingsError(f"solver '{solver}': {name} is {value}, must be at least {least}")


def require_positive(solver: str, **values: float) -> None:
    """Refuse numbers that are not positive and finite.

    Raises:
        SettingsError: one is not.
    """
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise SettingsError(f"solver '{solver}': {name} is {value}, must be positive and finite")


def _value(hint: Any, value: object, what: str) -> object:
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value):
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (bool, str) and type(value) is hint:
        return value
    if hint == tuple[str, ...] and isinstance(value, (list, tuple)) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    kinds = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
    raise SettingsError(f"{what} must be {kinds.get(hint, 'a list of names')}, not {value!r}")
