"""Camera pictures as the model takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.bag import BagError, pixels
from latent_mpc.picture_size import fitted


def picture(where: str, message: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture ``(h, w, 3) uint8`` of a message in the model's ``size`` = ``(h, w)``.

    Raises:
        BagError: the message cannot be decoded, or the camera saw less than the model takes; ``where`` names bag and topic.
    """
    try:
        return fitted(pixels(message), size)
    except (AttributeError, ValueError) as error:  # a kind of message that has no such field
        raise BagError(f"{where}: {' '.join(str(error).split())}") from error
