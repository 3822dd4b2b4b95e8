"""The bounds that a graph must keep to get into a bundle, by precision. docs/export.md says what they were chosen from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from world_model.bundle import BundleError
from world_model.precision.agreement import Agreement
from world_model.precision.figures import Figures


class GateError(BundleError):
    """A graph that is not what it should be: which, by which figure, and the bound. Nothing was written."""


@dataclass(frozen=True)
class Gate:
    """``worst``: the largest difference, ``steps``: that of distances and costs, ``relative``: the mean one over the mean size.

    A distance ends in a square root, which has no bounded slope where scenes are the same: rounding alone moves it by 1e-4 there.

    ``encoded``: the least cosine of a picture's latents, ``imagined``: of latents up to 8 steps ahead, where errors have fed on themselves;
    ``cosine_mean``: of both. Of plans: ``lost``, what choosing by it costs on average, as a share of the spread of the candidates' costs, and
    ``same``, the least share of scenes with the same winner. Equal candidates change places at the slightest noise: ``lost`` is what counts.
    """

    worst: float
    steps: float
    relative: float
    encoded: float
    imagined: float
    cosine_mean: float
    lost: float
    same: float


_INT8 = Gate(worst=math.inf, steps=math.inf, relative=0.1, encoded=0.995, imagined=0.98, cosine_mean=0.999, lost=0.02, same=0.8)
GATES = {
    "fp32": Gate(worst=1e-4, steps=1e-3, relative=1e-5, encoded=0.999999, imagined=0.999999, cosine_mean=0.999999, lost=0.0, same=1.0),
    "fp16": Gate(worst=0.1, steps=0.1, relative=0.005, encoded=0.9995, imagined=0.9995, cosine_mean=0.9999, lost=0.002, same=0.97),
    "int8": _INT8,
    "int8_dynamic": _INT8,
}
# Points of success rate that a precision may lose in the closed loop.
POINTS = 1.0


def require_figures(graph: str, precision: str, found: Figures, on: str) -> None:
    """Compare a graph's figures with its gate.

    Raises:
        GateError: one of them is beyond its bound.
    """
    gate = GATES[precision]
    least = gate.encoded if graph.partition(".")[0] in ("encoder", "witness") else gate.imagined
    for name, value, bound in (("least", found.cosine_least, least), ("mean", found.cosine_mean, gate.cosine_mean)):
        if value is not None and not value >= bound:
            raise _refused(f"{_file(graph, precision)}: the {name} cosine of its latents on {on} is {value:.6f}, less than {bound}")
    most = gate.steps if graph.partition(".")[0] in ("heads", "score") else gate.worst
    for name, value, bound in (("worst", found.worst, most), ("relative", found.relative, gate.relative)):
        if not value <= bound:
            raise _refused(f"{_file(graph, precision)}: the {name} difference from torch on {on} is {value:.2g}, more than {bound}")


def require_agreement(precision: str, found: Agreement) -> None:
    """Compare what a planner would choose with the gate.

    Raises:
        GateError: it chooses too differently.
    """
    gate = GATES[precision]
    share = found.lost / found.spread if found.spread else found.lost
    if not share <= gate.lost:
        raise _refused(f"the graphs in {precision} together: plans chosen by them cost {share:.3f} of the candidates' spread, more than {gate.lost}")
    if not found.same >= gate.same:
        raise _refused(
            f"the graphs in {precision} together: the same winner in {100 * found.same:.0f} % of scenes, less than {100 * gate.same:.0f} %"
        )


def require_success(precision: str, percent: float, fp32_percent: float) -> None:
    """Compare closed-loop success rates in percent.

    Raises:
        GateError: more than a point is lost.
    """
    if not percent >= fp32_percent - POINTS:
        reached = f"success {percent:.1f} % in the closed loop, fp32 {fp32_percent:.1f} %"
        raise _refused(f"the graphs in {precision} together: {reached}; at most {POINTS:g} point may be lost")


def _file(graph: str, precision: str) -> str:
    return f"{graph}.onnx" if precision == "fp32" else f"{graph}.{precision}.onnx"


def _refused(reason: str) -> GateError:
    return GateError(f"{reason}; no bundle was written")
