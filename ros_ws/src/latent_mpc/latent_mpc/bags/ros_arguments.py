"""What a command hands to a node that it runs in its own process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from latent_mpc.bags.storage import BagError

_DOMAINS = range(0, 233)


@contextmanager
def parameters(node: str, values: Mapping[str, object]) -> Iterator[list[str]]:
    """Command line for ``rclpy.init`` that gives ``node`` these parameters, whatever characters they hold."""
    with tempfile.TemporaryDirectory(prefix="latent-mpc-") as folder:
        file = Path(folder, "parameters.yaml")
        file.write_text(yaml.safe_dump({node: {"ros__parameters": dict(values)}}))
        yield ["latent-mpc", "--ros-args", "--params-file", str(file)]


def use_domain(domain: int | None) -> None:
    """Talk in ``domain``; None leaves the environment as it is.

    Raises:
        BagError: there is no such domain.
    """
    if domain is None:
        return
    if domain not in _DOMAINS:
        raise BagError(f"domain is {domain}, must be 0 to {_DOMAINS[-1]}")
    os.environ["ROS_DOMAIN_ID"] = str(domain)
