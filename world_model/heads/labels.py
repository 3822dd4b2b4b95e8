"""Labels of frames, from a rule over the recorded state or from a CSV file that a person wrote."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from world_model.heads.rule import RuleError, parse_rule

_VALUES = ("label", "margin", "value")


class LabelError(ValueError):
    """Labels that cannot be used, with the reason in one line."""


@dataclass(frozen=True)
class Labels:
    """A number for each frame, NaN where it is not labelled: ``values (E, T+1) float64``.

    ``kind``: ``margin`` is a signed distance to what is forbidden, at least 0 where the frame is safe; ``class`` is 1 for safe and -1 for forbidden;
    ``value`` is any number. ``unit`` is m, rad, "mixed" or "". ``source`` is the rule or the name of the file.
    """

    values: NDArray[np.float64]
    kind: str
    unit: str
    source: str

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which frames are labelled, ``(E, T+1)``."""
        return np.isfinite(self.values)

    @property
    def unsafe(self) -> NDArray[np.bool_]:
        """Which frames are known to be forbidden, ``(E, T+1)``."""
        return self.known & (self.values < 0)

    def as_classes(self) -> Labels:
        """The same with the distances forgotten: 1 for safe, -1 for forbidden."""
        return Labels(np.where(self.known, np.where(self.values < 0, -1.0, 1.0), np.nan), "class", "", self.source)

    def taken(self, episodes: NDArray[np.intp]) -> Labels:
        """The labels of ``episodes``."""
        return Labels(self.values[episodes], self.kind, self.unit, self.source)


def read_labels(text: str, episodes: int, frames: int, state: NDArray[np.float32] | None) -> Labels:
    """Labels for ``episodes`` of ``frames`` each from ``text``: a rule over ``state (E, T+1, 6)``, or the path of a CSV file.

    The file has a header and the columns ``episode``, ``frame`` (both from 0) and one of ``label`` (1 is forbidden, 0 is safe), ``margin`` (a signed
    distance in m, negative where forbidden) or ``value`` (any number, for a goal cost).

    Raises:
        LabelError: the file cannot be read or says something impossible, or there is no state for a rule.
        RuleError: the rule cannot be understood.
    """
    if text.endswith(".csv"):
        return _from_file(Path(text), episodes, frames)
    rule = parse_rule(text)
    if state is None:
        raise LabelError("the data set records no state that a rule could look at; label frames in a CSV file")
    values = rule.values(state)
    if not np.all(np.isfinite(values)):
        raise RuleError(f"'{text}' is not finite for some frames")
    return Labels(values, "margin" if rule.is_margin else "value", rule.unit, text)


def _from_file(file: Path, episodes: int, frames: int) -> Labels:
    try:
        with file.open(newline="") as lines:
            reader = csv.DictReader(lines)
            columns = set(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"cannot read {file}: {error}") from error
    found = [name for name in _VALUES if name in columns]
    if not {"episode", "frame"} <= columns or len(found) != 1:
        raise LabelError(
            f"{file}: the header must name episode, frame and one of {', '.join(_VALUES)}, not {', '.join(sorted(columns)) or 'nothing'}"
        )
    kind = found[0]
    values = np.full((episodes, frames), np.nan)
    for number, row in enumerate(rows, start=2):
        try:
            episode, frame, value = int(row["episode"]), int(row["frame"]), float(row[kind])
        except (TypeError, ValueError):
            raise LabelError(f"{file}, line {number}: episode and frame must be whole numbers and {kind} a number") from None
        if not (0 <= episode < episodes and 0 <= frame < frames):
            raise LabelError(f"{file}, line {number}: the data hold episodes 0 to {episodes - 1} of frames 0 to {frames - 1}, not {episode}, {frame}")
        if not math.isfinite(value) or (kind == "label" and value not in (0.0, 1.0)):
            raise LabelError(f"{file}, line {number}: {kind} is {value}, must be {'0 (safe) or 1 (forbidden)' if kind == 'label' else 'finite'}")
        if np.isfinite(values[episode, frame]):
            raise LabelError(f"{file}, line {number}: episode {episode}, frame {frame} is labelled twice")
        values[episode, frame] = 1.0 - 2.0 * value if kind == "label" else value
    if not rows:
        raise LabelError(f"{file} labels no frame")
    return Labels(values, {"label": "class"}.get(kind, kind), "m" if kind == "margin" else "", file.name)
