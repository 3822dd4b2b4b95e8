"""The machine that trains: Lightning Fabric as configured, or as torchrun started us."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from world_model.config import ComputeConfig, ConfigError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def open_fabric(config: ComputeConfig, threads: int) -> Fabric:
    """Fabric, launched.

    Raises:
        ConfigError: this machine has no such accelerator, or fewer devices.
    """
    from lightning_fabric import Fabric  # takes seconds to import
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    torch.set_num_threads(threads)
    accelerator = config.accelerator
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    devices, nodes = config.devices, config.nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    precision = config.precision if config.precision != "auto" else ("bf16-mixed" if accelerator == "cuda" else "32-true")
    many = devices * nodes > 1
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy="ddp" if many else "auto", precision=precision)  # type: ignore[arg-type]
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise ConfigError(f"compute: {' '.join(str(error).split())}") from error
    fabric.launch()
    return fabric
