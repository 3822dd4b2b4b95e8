"""Named rows of numbers as messages that plotting tools read."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout


def numbers_message(label: str, values: Sequence[float]) -> Float64MultiArray:
    """One row of ``values``, whose only dimension is called ``label``."""
    layout = MultiArrayLayout(dim=[MultiArrayDimension(label=label, size=len(values), stride=len(values))])
    return Float64MultiArray(layout=layout, data=array("d", values))
