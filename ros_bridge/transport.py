"""Which way messages take between processes, decided before ROS starts.

Fast DDS prefers shared memory on one machine. Its ports are guarded by mutexes in that memory: a process that is killed (SIGKILL, out of memory)
while it holds one leaves it locked, and every process that sends to it waits for a second, with readers and writers of its own locked meanwhile
(``SharedMemTransport::push_discard``, ``Port::try_push``, ``interprocess_mutex::lock``). One kill in about twenty does that. A control loop must not
depend on how others die: over UDP a dead reader costs nothing. Pictures still go through memory between the processes that need them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

_TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"
# Fast DDS 3 knows the first and warns of the second, 2 knows the second alone.
_PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_WITH_FAST_DDS_2 = ("humble", "iron", "jazzy")
_RANGE, _LOCAL = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"
# What ROS itself sets up for LOCALHOST, shared memory left out: it asks for that whatever the variable above says.
_LOOPBACK = Path(__file__).parent / "loopback.xml"
PICTURES = "latent_mpc_pictures"
"""Name of the participant's profile in launch/config/fastdds.xml, by which that file is known wherever it lies."""


def with_room_for_pictures(profile: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that let a process share large pictures by ``profile``; none where ``environment`` says already what transports are used."""
    return {} if _TRANSPORTS in environment or any(name in environment for name in _PROFILES) else {_variable(environment): str(profile)}


def without_shared_memory(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let this process speak over UDP alone, unless ``environment`` says already what transports it is to use. To be called before ``rclpy.init``.

    The profile for pictures is for those who pass pictures on: whoever exported it, here it is left out. Any other is somebody's own and stays.
    Means nothing to another middleware than Fast DDS, nor to one older than 2.11 (Humble): there, a profile has to say it.
    """
    for name in _PROFILES:
        if _is_for_pictures(environment.get(name, "")):
            del environment[name]
    if _TRANSPORTS in environment or any(name in environment for name in _PROFILES):
        return
    environment[_TRANSPORTS] = "UDPv4"
    if environment.get(_RANGE) == "LOCALHOST" or environment.get(_LOCAL) == "1":
        environment[_variable(environment)] = str(_LOOPBACK)
        environment[_RANGE] = "SYSTEM_DEFAULT"
        environment.pop(_LOCAL, None)


def _variable(environment: Mapping[str, str]) -> str:
    return _PROFILES[environment.get("ROS_DISTRO") in _WITH_FAST_DDS_2]


def _is_for_pictures(profile: str) -> bool:
    try:
        return bool(profile) and PICTURES in Path(profile).read_text()
    except (OSError, UnicodeDecodeError):
        return False
