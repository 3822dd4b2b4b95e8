"""Named rows of numbers as messages that plotting tools read."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Float64MultiArray, Int64MultiArray, MultiArrayDimension, MultiArrayLayout


def numbers_message(label: str, values: Sequence[float]) -> Float64MultiArray:
    """One row of ``values``, whose only dimension is called ``label``."""
    layout = MultiArrayLayout(dim=[MultiArrayDimension(label=label, size=len(values), stride=len(values))])
    return Float64MultiArray(layout=layout, data=array("d", values))


def journal_message(first: int, rows: NDArray[np.int64]) -> Int64MultiArray:
    """Rows ``(N, C)`` of a journal; ``first`` is the number of the first of them, counted from 0, so that a lost message is noticed.

    It lies in the layout's ``data_offset`` modulo 2^32; the data begin at 0 all the same.
    """
    count, columns = rows.shape
    dimensions = [
        MultiArrayDimension(label="journal", size=count, stride=count * columns),
        MultiArrayDimension(label="kind, what, ros_ns, steady", size=columns, stride=columns),
    ]
    return Int64MultiArray(layout=MultiArrayLayout(dim=dimensions, data_offset=first % 2**32), data=array("q", rows.tobytes()))
