"""ROS domains on this machine that nobody uses."""

from __future__ import annotations

import random
import socket

# Ports of the DDS wire protocol: what a domain's participants are discovered at.
_BASE, _PER_DOMAIN, _PER_PARTICIPANT, _FIRST = 7400, 250, 2, 10
_PARTICIPANTS = 12
# Beyond 101 the ports fall into the range that Linux hands out to anybody.
USABLE = range(1, 102)
LARGEST = 232


class DomainError(ValueError):
    """A ROS domain that cannot be used, with the reason in one line."""


def is_quiet(domain: int) -> bool:
    """Whether no participant of ``domain`` listens on this machine."""
    first = _BASE + _PER_DOMAIN * domain + _FIRST
    return all(_is_free(first + _PER_PARTICIPANT * participant) for participant in range(_PARTICIPANTS))


def quiet_domain() -> int:
    """A domain that nobody on this machine uses, picked at random so that two who ask at once rarely meet.

    Raises:
        DomainError: all are in use.
    """
    for domain in random.sample(USABLE, len(USABLE)):
        if is_quiet(domain):
            return domain
    raise DomainError(f"all ROS domains from {USABLE.start} to {USABLE.stop - 1} are in use on this machine")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
