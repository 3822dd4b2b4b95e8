"""Payloads that are no message: truncated, lengthened, overwritten, and noise. No ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from latent_mpc.bag import TYPES

_HEADER = 4
_LONGEST_NOISE = 4096


def malformed(payload: Callable[[], bytes], msgtype: str, rng: np.random.Generator) -> Iterator[bytes]:
    """Payloads made from the valid CDR that ``payload`` gives of a ``msgtype`` that an independent reader cannot decode, for ever.

    What is overwritten somewhere and still decodes is a message, perhaps with another content: such a plan may be followed. It is left out here, and
    what it may lead to is the business of the scenarios with hostile plans.
    """
    first = payload()
    # What the middleware leaves behind the last value is no part of the message.
    spare = next(count for count in range(len(first)) if _decodes(first[: len(first) - count], msgtype))
    while True:
        valid = payload()
        candidate = _mutated(valid[: len(valid) - spare], rng)
        if not _decodes(candidate, msgtype):
            yield candidate


def _mutated(payload: bytes, rng: np.random.Generator) -> bytes:
    body = bytearray(payload)
    kind = int(rng.integers(5))
    if kind == 0:
        return bytes(body[: int(rng.integers(len(body)))])
    if kind == 1:
        return bytes(rng.integers(0, 256, int(rng.integers(_LONGEST_NOISE)), dtype=np.uint8))
    if kind == 2:
        for at in rng.integers(0, len(body), int(rng.integers(1, 8))):
            body[int(at)] ^= 1 << int(rng.integers(8))
        return bytes(body)
    at = int(rng.integers(_HEADER, max(_HEADER + 1, len(body) - 4)))
    if kind == 3:
        # A length that is not there.
        body[at - at % 4 : at - at % 4 + 4] = int(rng.choice((2**32 - 1, 2**31, 2**16, 10**6))).to_bytes(4, "little")
        return bytes(body)
    length = int(rng.integers(1, 64))
    return bytes(body[:at]) + bytes(rng.integers(0, 256, length, dtype=np.uint8)) + bytes(body[at + length :])


def _decodes(payload: bytes, msgtype: str) -> bool:
    try:
        TYPES.deserialize_cdr(payload, msgtype)
    except Exception:  # whatever it says, it is no message
        return False
    return True
