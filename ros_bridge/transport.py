"""Which way messages take between processes, decided before ROS starts.

Fast DDS prefers shared memory on one machine. Its ports are guarded by mutexes in that memory: a process that is killed (SIGKILL, out of memory)
while it holds one leaves it locked, and every process that sends to it waits for a second, with readers and writers of its own locked meanwhile
(``SharedMemTransport::push_discard``, ``Port::try_push``, ``interprocess_mutex::lock``). One kill in about twenty does that. A control loop must not
depend on how others die: over UDP a dead reader costs nothing. Pictures still go through memory between the processes that need them.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

_TRANSPORTS, _PROFILES = "FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE"
_RANGE, _LOCAL = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"
# What ROS itself sets up for LOCALHOST, shared memory left out: it asks for that whatever the variable above says.
_LOOPBACK = Path(__file__).parent / "loopback.xml"


def without_shared_memory(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let this process speak over UDP alone, unless ``environment`` says already what transports it is to use. To be called before ``rclpy.init``.

    Means nothing to another middleware than Fast DDS, nor to one older than 2.11 (Humble): there, a profile has to say it.
    """
    if _TRANSPORTS in environment or _PROFILES in environment:
        return
    environment[_TRANSPORTS] = "UDPv4"
    if environment.get(_RANGE) == "LOCALHOST" or environment.get(_LOCAL) == "1":
        environment[_PROFILES] = str(_LOOPBACK)
        environment[_RANGE] = "SYSTEM_DEFAULT"
        environment.pop(_LOCAL, None)
